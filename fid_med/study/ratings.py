"""People's ratings of sets of images, from a csv."""

import collections
import csv
import math
import pathlib
from collections.abc import Collection

from fid_med.errors import DataError

KEYS = ("set", "image")


def read_ratings(path, known: Collection[str]) -> dict[str, list[float]]:
    """Reads ratings, larger for better images.

    Args:
      path: csv in UTF-8 with a header. The column `set` names what is rated: a generated set by
        its folder's name, `untouched`, or a disturbance and its level as `gaussian_blur:2`. Or
        the column `image` does, as `<set>/<anything>`. `rating` is a number. Other columns are
        passed over. Several rows of one set (raters, images) are several ratings.
      known: the names that can be rated.

    Returns:
      The ratings of each set that has any.

    Raises:
      DataError: no such file, another header, an unknown set, or what is no number; with the line.
    """
    path = pathlib.Path(path)
    ratings = collections.defaultdict(list)
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            rows = csv.DictReader(file)
            header = rows.fieldnames or []
            key = next((name for name in KEYS if name in header), None)
            if key is None or "rating" not in header:
                found = ",".join(header) or "nothing"
                raise DataError(f"{path}: header {found}; expected set,rating or image,rating")
            for row in rows:
                where = f"{path}: line {rows.line_num}"
                ratings[_set(row[key], key, known, where)].append(_number(row["rating"], where))
    except FileNotFoundError:
        raise DataError(f"{path}: no such file of ratings; check the path") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: not a csv in UTF-8 ({error})") from None
    if not ratings:
        raise DataError(f"{path}: holds no rating")
    return dict(ratings)


def _set(name, key, known, where):
    name = (name or "").strip()
    found = name.replace("\\", "/").split("/", 1)[0] if key == "image" else name
    if found not in known:
        some = ", ".join(sorted(known)[:8])
        raise DataError(f"{where}: {key} {name!r} is of no set of this study; known are {some}")
    return found


def _number(text, where):
    try:
        value = float(text)
    except (TypeError, ValueError):
        value = math.nan
    if not math.isfinite(value):
        raise DataError(f"{where}: rating {text!r} is not a number")
    return value
