"""Errors in what the user gave; each message is one line: what is wrong, where, how to fix it."""

_LONGEST = 2000  # characters of a message


def cut_message(line: str) -> str:
    """Cuts a message at 2,000 characters."""
    return line if len(line) <= _LONGEST else f"{line[:_LONGEST]} ..."


class FidMedError(Exception):
    """An error in what the user gave; a script prints the message and exits with status 1.

    Messages quote files and names of files. Line breaks in them become spaces, and a message is cut
    at 2,000 characters.
    """

    def __init__(self, message: object = ""):
        super().__init__(cut_message(" ".join(str(message).splitlines())))


class SettingError(FidMedError, ValueError):
    """An unknown or invalid setting; in a script a wrong flag, with exit status 2."""


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
