"""Command line of the scripts: flags, positional arguments and exit statuses.

`--help` ends with status 0, wrong data with 1 and wrong flags with 2 (absl's `app.run` uses 1 for
all three). An error is one line on stderr.
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
    """Parses the command line, calls `main` and ends the process.

    Args:
      main: function that takes the positional arguments as strings, and returns the exit status or
        None.
      usage: text of `--help`, shown above the flags; its first line is the usage line.
      positional: names of the positional arguments, all required, except that a last name in square
        brackets stands for any number of further ones; or a function that returns them after the
        flags are parsed.
      pass_on: whether to give unknown flags to `main`, together with the positional arguments and
        in the order of the command line. `main` checks both, and raises `flags.Error`.
    """

    # Printing a file name that is not UTF-8 must not raise; stderr has this mode by default.
    sys.stdout.reconfigure(errors="backslashreplace")

    def parse(argv):
        return _parse(argv, usage, positional, pass_on)

    try:
        app.run(lambda arguments: sys.exit(_guarded(main, arguments[1:])), flags_parser=parse)
    except BrokenPipeError:
        # The reader has closed the pipe, as `| head` does. Discard the rest without a message.
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
    required = sum(not name.startswith("[") for name in names)
    fits = len(given) == required or (len(given) > required and required < len(names))
    if not pass_on and not fits:
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
        # The user can fix a full disk or a missing permission; a traceback would not help.
        _end(1, str(error))
    except KeyboardInterrupt as error:
        # A training sets the status, and a message that says how to resume.
        _end(getattr(error, "status", 130), str(error) or "interrupted")


def _end(status, message):
    sys.stdout.flush()
    line = " ".join(str(message).split())
    program = sys.argv[0].removesuffix(f"{os.sep}__main__.py")  # of `python -m`: the package
    print(f"{os.path.basename(program)}: error: {line}", file=sys.stderr)
    sys.exit(status)


def load_tensorflow() -> None:
    """Imports TensorFlow without its start-up messages, and selects it as Keras's backend.

    The settings in `keras.json` and KERAS_BACKEND are overridden.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    os.environ["KERAS_BACKEND"] = "tensorflow"
    # Keras imports matplotlib, which logs that it builds its font cache on first use.
    logging.getLogger("matplotlib").setLevel(logging.WARNING)
    with quiet_tensorflow():
        import tensorflow

        # TensorFlow looks for devices on first use; do it while its messages are hidden.
        tensorflow.config.list_physical_devices()

        from fid_med.extractors.keras_settings import set_plain

        set_plain()
