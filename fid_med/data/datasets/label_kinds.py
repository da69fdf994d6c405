"""Labels of radiographs that are known by body part and by whether a finding is abnormal."""

from collections.abc import Sequence

from fid_med.errors import DataError

KINDS = ("body_part", "abnormality", "both")
FINDINGS = ("abnormal", "normal")


def check_kind(kind: str) -> None:
    """Raises a DataError for a kind of label that is none of `KINDS`."""
    if kind not in KINDS:
        raise DataError(f"label {kind!r}: unknown here; choose {', '.join(KINDS)}")


def label_name(kind: str, body_part: str, finding: str) -> str:
    """The name of one image's label: such as `elbow`, `abnormal` or `elbow_abnormal`."""
    return {
        "body_part": body_part,
        "abnormality": finding,
        "both": f"{body_part}_{finding}",
    }[kind]


def class_names(kind: str, body_parts: Sequence[str]) -> tuple[str, ...]:
    """All names that labels of a kind can have, sorted.

    Args:
      kind: one of `KINDS`.
      body_parts: of the data set.
    """
    names = {label_name(kind, part, finding) for part in body_parts for finding in FINDINGS}
    return tuple(sorted(names))
