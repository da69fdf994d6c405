"""Errors in what the user gave; each message is one line: what is wrong, where, how to fix it."""

import errno

_LONGEST = 2000  # characters of a message


def cut_message(line: str) -> str:
    """Cuts a message at 2,000 characters."""
    return line if len(line) <= _LONGEST else f"{line[:_LONGEST]} ..."


class FidMedError(Exception):
    """An error in what the user gave; a script prints the message and exits with status 1 or 2.

    Messages quote files and names of files. Line breaks in them become spaces, and a message is cut
    at 2,000 characters.

    Args:
      message: what is wrong, where, and how to fix it.
      wrong_flag: whether a flag or an argument is wrong, such as a path that leads nowhere or an
        unknown name (status 2); by default its data are (status 1).
    """

    wrong_flag = False

    def __init__(self, message: object = "", wrong_flag: bool = False):
        super().__init__(cut_message(" ".join(str(message).splitlines())))
        self.wrong_flag = wrong_flag or self.wrong_flag


class SettingError(FidMedError, ValueError):
    """An unknown or invalid setting; in a script a wrong flag, with exit status 2."""

    wrong_flag = True


class UnreadableImageError(FidMedError):
    """A file that should be an image but cannot be read as one."""


class StatisticsError(FidMedError, ValueError):
    """Statistics that are missing, malformed, not finite, or of a different extractor."""


class ExtractorError(FidMedError):
    """An extractor that cannot be found, loaded or verified."""


class DataError(FidMedError, ValueError):
    """Images, labels or folders that cannot be used."""


def reason_of(error: Exception) -> str:
    """Shortens another library's error message to part of one line, at most 200 characters."""
    return (" ".join(str(error).split()) or type(error).__name__)[:200]


def text_file_error(path, error: Exception, problem: str) -> DataError:
    """Makes the error of a text file that could not be read.

    Args:
      path: the file.
      error: what opening or reading it has raised.
      problem: what is wrong if the file is there, such as "not a CSV file in UTF-8".
    """
    missing = isinstance(error, FileNotFoundError)
    reason = "no such file" if missing else f"{problem} ({reason_of(error)})"
    return DataError(f"{path}: {reason}", is_wrong_path(error))


def is_wrong_path(error: Exception) -> bool:
    """Whether an error says that a path leads nowhere, or to something else than is needed."""
    kinds = (FileNotFoundError, FileExistsError, IsADirectoryError, NotADirectoryError)
    numbers = (errno.ENAMETOOLONG, errno.EINVAL, errno.ELOOP)
    return isinstance(error, kinds) or (isinstance(error, OSError) and error.errno in numbers)
