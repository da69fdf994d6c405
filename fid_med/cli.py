"""What the scripts share: parsing of flags and positional arguments, and the ways to end.

absl's own `app.run` ends wrong flags, wrong data and `--help` alike with status 1; here they end
with 2, 1 and 0, each mistake in one line on stderr.
"""

import glob
import os
import sys
import tempfile
from collections.abc import Callable, Sequence

from absl import app, flags

from fid_med.errors import FidMedError

_HELP = {"--help", "-help", "-h", "--helpshort", "--helpfull", "-?"}

_CHATTER = ("WARNING: All log messages before absl::InitializeLog()", "I0000 ")


def run(main: Callable[..., int | None], usage: str, positional: Sequence[str] = ()) -> None:
    """Parses the command line, calls `main(*positional)` and ends the process.

    Args:
      main: called with one string for each positional argument; returns the exit status or None.
      usage: text for `--help`, shown above the flags; its first line is the usage line.
      positional: names of the positional arguments, all required.
    """

    def parse(argv):
        return _parse(argv, usage, positional)

    app.run(lambda arguments: sys.exit(_guarded(main, arguments[1:])), flags_parser=parse)


def _parse(argv, usage, positional):
    if _HELP & set(argv[1:]):
        print(f"{usage.strip()}\n{flags.FLAGS.main_module_help()}")
        sys.exit(0)
    try:
        arguments = flags.FLAGS(argv)
    except flags.Error as error:
        _end(2, f"{str(error).rstrip('.')}; see --help")
    given = arguments[1:]
    if len(given) != len(positional):
        wanted = " ".join(positional) if positional else "no positional arguments"
        _end(2, f"expected {wanted}, got {len(given)}: {' '.join(given) or 'none'}; see --help")
    return arguments


def _guarded(main, arguments):
    try:
        return main(*arguments) or 0
    except FidMedError as error:
        _end(1, str(error))
    except OSError as error:
        # A full disk or a folder without permission is the user's to mend, not a crash of ours.
        _end(1, str(error))
    except KeyboardInterrupt as error:
        # A training says with which status, and how to go on.
        _end(getattr(error, "status", 130), str(error) or "interrupted")


def _end(status, message):
    sys.stdout.flush()
    line = " ".join(str(message).split())
    print(f"{os.path.basename(sys.argv[0])}: error: {line}", file=sys.stderr)
    sys.exit(status)


def load_tensorflow() -> None:
    """Imports TensorFlow without its start-up chatter, which would bury the lines that matter.

    Some of it is printed by the library while it loads, whatever the log level, so what arrives
    on stderr meanwhile is held back and sifted.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    sys.stderr.flush()
    shown = os.dup(2)
    with tempfile.TemporaryFile("w+", errors="replace") as held:
        os.dup2(held.fileno(), 2)
        try:
            import tensorflow

            # Devices are looked for on first use; better now, while stderr is held.
            tensorflow.config.list_physical_devices()
        finally:
            os.dup2(shown, 2)
            os.close(shown)
            held.seek(0)
            for line in held:
                # A failed cuInit matters only where there is a GPU to initialise.
                no_gpu = "cuInit" in line and not glob.glob("/dev/nvidia[0-9]*")
                if not line.startswith(_CHATTER) and not no_gpu:
                    sys.stderr.write(line)
