"""Which patient an image is of, by its file's name."""

import re
from collections.abc import Sequence

from fid_med.errors import DataError


def patients_of(names: Sequence[str], expression: str) -> list[str]:
    """The patient of each name.

    Args:
      names: files, with forward slashes.
      expression: searched in each file's name without folders; its first group, or the whole match
        where it has none, is the patient. Example: `^.{8}` for the first eight characters.

    Raises:
      DataError: no regular expression, or one that names nobody in some of the names.
    """
    try:
        pattern = re.compile(expression)
    except re.error as error:
        raise DataError(f"patient_regex {expression!r}: {error}") from None
    matches = [pattern.search(name.rsplit("/", 1)[-1]) for name in names]
    patients = [match and match.group(1 if pattern.groups else 0) for match in matches]
    # An empty match, or a group that took no part in it, names nobody.
    unmatched = [name for name, patient in zip(names, patients, strict=True) if not patient]
    if unmatched:
        raise DataError(
            f"patient_regex {expression!r} matches nothing in {len(unmatched)} names, "
            f"such as {unmatched[0]}"
        )
    return patients
