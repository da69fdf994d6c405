"""Statistics of image sets too large for one machine, with Apache Beam (the extra `beam`)."""

import logging

from fid_med.errors import FidMedError, reason_of

try:
    logging.disable(logging.WARNING)  # Beam logs that optional packages are missing
    import apache_beam  # noqa: F401
except ImportError as error:
    raise FidMedError(
        f"Apache Beam cannot be imported ({reason_of(error)}): pip install 'fid_med[beam]'"
    ) from None
finally:
    logging.disable(logging.NOTSET)
