"""Kinds of label for radiographs with a known body part and a normal or abnormal finding."""

from collections.abc import Sequence

from fid_med.errors import DataError

KINDS = ("body_part", "abnormality", "both")
FINDINGS = ("abnormal", "normal")


def check_kind(kind: str) -> None:
    """Raises a DataError unless `kind` is one of `KINDS`."""
    if kind not in KINDS:
        raise DataError(
            f"label {kind!r}: unknown for this data set; choose {', '.join(KINDS)}", wrong_flag=True
        )


def label_name(kind: str, body_part: str, finding: str) -> str:
    """Name of an image's label, for example `elbow`, `abnormal` or `elbow_abnormal`."""
    return {
        "body_part": body_part,
        "abnormality": finding,
        "both": f"{body_part}_{finding}",
    }[kind]


def class_names(kind: str, body_parts: Sequence[str]) -> tuple[str, ...]:
    """All possible label names of one kind, sorted.

    Args:
      kind: one of `KINDS`.
      body_parts: body parts in the data set.
    """
    names = {label_name(kind, part, finding) for part in body_parts for finding in FINDINGS}
    return tuple(sorted(names))
