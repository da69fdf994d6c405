"""Csv files that come with data sets."""

import csv
import pathlib

from fid_med.errors import DataError, text_file_error
from fid_med.utils.files import open_text


def read_rows(path: pathlib.Path) -> list[tuple[int, list[str]]]:
    """Reads a csv file, separated by comma or semicolon, with or without a byte order mark.

    Args:
      path: path of the file.

    Returns:
      (line number, cells without surrounding spaces) of each line that is not empty.

    Raises:
      DataError: a missing file, or one that is not UTF-8 text.
    """
    try:
        with open_text(path, "utf-8-sig") as file:
            first = file.readline()
            file.seek(0)
            # German and French Excel write semicolons.
            reader = csv.reader(file, delimiter=";" if ";" in first and "," not in first else ",")
            rows = [(reader.line_num, [cell.strip() for cell in row]) for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise text_file_error(path, error, "cannot be read as a csv file") from None
    return [(line, row) for line, row in rows if any(row)]


def refuse(path: pathlib.Path, problem: str, lines: list[tuple[int, str]]) -> None:
    """Raises a DataError that counts the lines with a problem and quotes the first of them.

    Args:
      path: path of the csv file.
      problem: what is wrong, as a verb phrase, for example "name no image".
      lines: (line number, content) of the lines with this problem; nothing is raised if empty.
    """
    if lines:
        line, content = lines[0]
        raise DataError(f"{path}: {len(lines)} lines {problem}, such as line {line}: {content}")
