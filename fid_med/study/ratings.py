"""Ratings of sets of images by people, read from a CSV file."""

import collections
import csv
import math
import pathlib
from collections.abc import Collection, Sequence

from fid_med.disturbances.registry import DISTURBANCES
from fid_med.errors import DataError, text_file_error
from fid_med.utils.files import open_text

_KEYS = ("set", "image")


def cell_names(disturbances: Sequence[str]) -> list[str]:
    """Names of the images of a study: `untouched`, and each disturbance with each level."""
    levels = [
        f"{name}:{level:g}" for name in disturbances for level in DISTURBANCES[name].levels[1:]
    ]
    return ["untouched", *levels]


def read_ratings(path, known: Collection[str]) -> dict[str, list[float]]:
    """Reads ratings, larger for better images.

    Args:
      path: CSV file in UTF-8 with a header. The column `set` names the rated set: the folder name
        of a generated set, `untouched`, or a disturbance with its level, as in `gaussian_blur:2`.
        Alternatively, the column `image` names it as `<set>/<anything>`. The column `rating` is a
        number. Other columns are ignored. Several rows for one set (raters, images) are several
        ratings.
      known: names that can be rated.

    Returns:
      Ratings by set, for the sets with at least one rating.

    Raises:
      DataError: a missing file, an unexpected header, an unknown set or a rating that is not a
        number; the message gives the line.
    """
    path = pathlib.Path(path)
    ratings = collections.defaultdict(list)
    try:
        with open_text(path, "utf-8-sig") as file:
            rows = csv.DictReader(file)
            header = rows.fieldnames or []
            key = next((name for name in _KEYS if name in header), None)
            if key is None or "rating" not in header:
                found = ",".join(header) or "nothing"
                raise DataError(f"{path}: header {found}; expected set,rating or image,rating")
            for row in rows:
                where = f"{path}: line {rows.line_num}"
                ratings[_parse_set(row[key], key, known, where)].append(
                    _parse_number(row["rating"], where)
                )
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise text_file_error(path, error, "not a CSV file in UTF-8") from None
    if not ratings:
        raise DataError(f"{path}: contains no rating; add rows below the header")
    return dict(ratings)


def _parse_set(name, key, known, where):
    name = (name or "").strip()
    found = name.replace("\\", "/").split("/", 1)[0] if key == "image" else name
    if found not in known:
        some = ", ".join(sorted(known)[:8])
        raise DataError(f"{where}: {key} {name!r} is not a set of this study; known are {some}")
    return found


def _parse_number(text, where):
    try:
        value = float(text)
    except (TypeError, ValueError):
        value = math.nan
    if not math.isfinite(value):
        raise DataError(f"{where}: rating {text!r} is not a number")
    return value
