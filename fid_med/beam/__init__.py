"""Statistics of sets of images too large for one machine, by Apache Beam (extra `beam`)."""

import logging

from fid_med.errors import FidMedError, reason_of

try:
    logging.disable(logging.WARNING)  # Beam tells of optional packages that nobody asked for
    import apache_beam  # noqa: F401
except ImportError as error:
    raise FidMedError(
        f"Apache Beam cannot be imported ({reason_of(error)}): pip install 'fid_med[beam]'"
    ) from None
finally:
    logging.disable(logging.NOTSET)
