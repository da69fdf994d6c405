"""The mistakes of a user, each told in one line: what was wrong, where, and the mend."""


class FidMedError(Exception):
    """A mistake in what the user gave; scripts print its message and exit with status 1."""


class SettingError(FidMedError, ValueError):
    """A setting outside what is known or allowed; for a script that is a wrong flag, status 2."""


class UnreadableImageError(FidMedError):
    """A file that its name calls an image cannot be read as one."""


class StatisticsError(FidMedError, ValueError):
    """Statistics that are missing, malformed, not finite, or of another extractor."""


class ExtractorError(FidMedError):
    """An extractor that cannot be found, loaded or trusted."""


class DataError(FidMedError, ValueError):
    """Images, labels or a folder that cannot serve the purpose."""


def reason_of(error: Exception) -> str:
    """What another library's error says, as part of one line: at most 200 characters."""
    return (" ".join(str(error).split()) or type(error).__name__)[:200]
