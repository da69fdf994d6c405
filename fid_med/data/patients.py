"""Patients of images, and groups of related images."""

import collections
import re
from collections.abc import Hashable, Iterable, Sequence

from fid_med.errors import DataError, SettingError


def compile_patient_regex(expression: str) -> re.Pattern:
    """Compiles the regular expression that finds a patient in a file name.

    Raises:
      SettingError: it is none.
    """
    try:
        return re.compile(expression)
    except (re.error, RecursionError, OverflowError) as error:
        raise SettingError(
            f"patient_regex {expression!r}: not a regular expression ({error}); for example, "
            "'^.{8}' takes the first eight characters of a file name"
        ) from None


def patients_of(names: Sequence[str], expression: str) -> list[str]:
    """Finds the patient in each file name.

    Args:
      names: paths with forward slashes.
      expression: regular expression, searched in each file name without folders. Its first group,
        or the whole match if it has no group, is the patient. Example: `^.{8}` for the first eight
        characters.

    Returns:
      list of str, one per name.

    Raises:
      SettingError: an invalid regular expression.
      DataError: an expression that finds no patient in some names.
    """
    pattern = compile_patient_regex(expression)
    matches = [pattern.search(name.rsplit("/", 1)[-1]) for name in names]
    patients = [match and match.group(1 if pattern.groups else 0) for match in matches]
    # An empty match, or a group that did not participate, is no patient.
    unmatched = [name for name, patient in zip(names, patients, strict=True) if not patient]
    if unmatched:
        raise DataError(
            f"patient_regex {expression!r} matches nothing in {len(unmatched)} names, "
            f"such as {unmatched[0]}",
            wrong_flag=True,
        )
    return patients


def linked_groups(keys: Sequence[Iterable[Hashable]], members: Iterable[int]) -> list[list[int]]:
    """Groups images that share a key, directly or through other images.

    Args:
      keys: keys of each image, for example its patient, its study and the hash of its pixels.
      members: indices of the images to group.

    Returns:
      Groups of indices; every member is in exactly one.
    """
    parent = {int(i): int(i) for i in members}

    def find(i):
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    first: dict = {}
    for i in parent:
        for key in keys[i]:
            parent[find(i)] = find(first.setdefault(key, i))
    groups = collections.defaultdict(list)
    for i in parent:
        groups[find(i)].append(i)
    return list(groups.values())
