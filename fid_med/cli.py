"""What the scripts share: parsing of flags and positional arguments, and the ways to end.

absl's own `app.run` ends wrong flags, wrong data and `--help` alike with status 1; here they end
with 2, 1 and 0, each mistake in one line on stderr.
"""

import logging
import os
import sys
from collections.abc import Callable, Sequence

from absl import app, flags

from fid_med.errors import FidMedError, SettingError
from fid_med.utils.progress import quiet_tensorflow

_HELP = {"--help", "-help", "-h", "--helpshort", "--helpfull", "-?"}


def run(
    main: Callable[..., int | None],
    usage: str,
    positional: Sequence[str] | Callable[[], Sequence[str]] = (),
    pass_on: bool = False,
) -> None:
    """Parses the command line, calls `main(*positional)` and ends the process.

    Args:
      main: called with one string for each positional argument; returns the exit status or None.
      usage: text for `--help`, shown above the flags; its first line is the usage line.
      positional: names of the positional arguments, all required; or a function that gives them
        once the flags are known.
      pass_on: unknown flags are no error, but go to `main` with the positional arguments, in their
        order; it checks both, and raises `flags.Error` for wrong ones.
    """

    # A file's name that is no UTF-8 must not end a run at its last line; stderr is so by itself.
    sys.stdout.reconfigure(errors="backslashreplace")

    def parse(argv):
        return _parse(argv, usage, positional, pass_on)

    try:
        app.run(lambda arguments: sys.exit(_guarded(main, arguments[1:])), flags_parser=parse)
    except BrokenPipeError:
        # Whoever reads has seen enough, as `| head` does. What is unwritten goes nowhere quietly.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)


def _parse(argv, usage, positional, pass_on):
    if _HELP & set(argv[1:]):
        print(f"{usage.strip()}\n{flags.FLAGS.main_module_help()}", flush=True)
        sys.exit(0)
    try:
        arguments = flags.FLAGS(argv, known_only=pass_on)
    except flags.Error as error:
        _end(2, f"{str(error).rstrip('.')}; see --help")
    given = arguments[1:]
    names = positional() if callable(positional) else positional
    if not pass_on and len(given) != len(names):
        wanted = " ".join(names) if names else "no positional arguments"
        _end(2, f"expected {wanted}, got {len(given)}: {' '.join(given) or 'none'}; see --help")
    return arguments


def _guarded(main, arguments):
    try:
        status = main(*arguments) or 0
        sys.stdout.flush()
        return status
    except flags.Error as error:
        _end(2, f"{str(error).rstrip('.')}; see --help")
    except SettingError as error:
        _end(2, f"{error}; see --help")
    except FidMedError as error:
        _end(1, str(error))
    except BrokenPipeError:
        raise
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

    Keras runs on it, whatever the machine's `keras.json` and KERAS_BACKEND are set to.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    os.environ["KERAS_BACKEND"] = "tensorflow"
    # Keras imports it, and on a machine's first use it tells of its fonts.
    logging.getLogger("matplotlib").setLevel(logging.WARNING)
    with quiet_tensorflow():
        import tensorflow

        # Devices are looked for on first use; better now, while stderr is held.
        tensorflow.config.list_physical_devices()

        from fid_med.extractors.keras_settings import set_plain

        set_plain()
