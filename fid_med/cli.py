"""Command line of the scripts: flags, positional arguments and exit statuses.

`--help` ends with status 0, wrong data with 1 and wrong flags with 2, also a flag or an argument
that names a missing file (absl's `app.run` uses 1 for all three). An error is one line on stderr.
"""

import contextlib
import logging
import math
import os
import re
import signal
import sys
import threading
from collections.abc import Callable, Sequence

from absl import app, flags

from fid_med.errors import FidMedError, SettingError, cut_message, is_wrong_path
from fid_med.utils.tensorflow_import import import_tensorflow

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
      positional: names of the positional arguments. One in brackets, such as `[GENERATED]`, may be
        missing; one that ends in `...]` means any number. Or a function that returns them
        after the flags are parsed.
      pass_on: whether to give unknown flags to `main`, together with the positional arguments and
        in the order of the command line. `main` checks both, and raises `flags.Error`.
    """

    _open_closed_streams()
    # Printing a file name that is not UTF-8 must not raise; stderr has this mode by default. The
    # stdout of a notebook has no modes.
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="backslashreplace")

    def parse(argv):
        return _parse(argv, usage, positional, pass_on)

    try:
        app.run(lambda arguments: sys.exit(_guarded(main, arguments[1:])), flags_parser=parse)
    except BrokenPipeError:
        # The reader has closed the pipe, as `| head` does. Discard the rest without a message.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    finally:
        _forget_flags()


def _open_closed_streams():
    """Discards what goes to a closed stdout or stderr (`>&-`).

    Else the next file that is opened would get the stream's number, and TensorFlow's messages.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest free number
        if getattr(sys, name) is None:
            # Not closed before the interpreter's end.
            setattr(sys, name, open(number, "w" if number else "r", closefd=False))  # noqa: SIM115


def _forget_flags():
    """Removes the flags of the script: a notebook may run it, or another one, again."""
    for flag in flags.FLAGS.get_flags_for_module(sys.argv[0]):
        delattr(flags.FLAGS, flag.name)
    flags.FLAGS.unparse_flags()


class _Terminated(KeyboardInterrupt):
    status = 128 + signal.SIGTERM


@contextlib.contextmanager
def _terminable():
    """Makes SIGTERM, by which batch systems end a job, stop a script like Ctrl-C.

    What is computed so far is then written to the cache. A second SIGTERM ends the process at once.
    Only the main thread receives signals; a notebook may run a script in another.
    """

    def stop(*_):
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        raise _Terminated("interrupted (SIGTERM)")

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before or signal.SIG_DFL)


def check_regex(*names: str) -> None:
    """Makes the command line refuse a flag that is no regular expression, before any work."""
    from fid_med.data.patients import compile_patient_regex

    def check(expression):
        try:
            return expression is None or bool(compile_patient_regex(expression))
        except SettingError as error:
            raise flags.ValidationError(str(error)) from None

    for name in names:
        flags.register_validator(name, check)


def write_outputs(*outputs: tuple[flags.FlagHolder, Callable[[], object]]) -> None:
    """Writes the files that are asked for. If one cannot be written, the others still are.

    Results are printed before, so that a full disk does not lose what took hours.

    Args:
      outputs: pairs of a flag and a function, which is called if the flag is given.

    Raises:
      FidMedError: all failures, in one line.
    """
    sys.stdout.flush()
    failures = []
    for write in (write for flag, write in outputs if flag.value):
        try:
            write()
        except BrokenPipeError:
            raise
        except OSError as error:
            failures.append(_reason(error))
        except FidMedError as error:
            failures.append(str(error))
    if failures:
        raise FidMedError("; ".join(failures))


def refuse_given(names: Sequence[str], why: str) -> None:
    """Raises SettingError if one of these flags is on the command line, where it has no effect.

    Args:
      names: of the flags.
      why: when they have no effect, such as "with --plan".
    """
    used = [flag for flag in map(flags.FLAGS.__getitem__, names) if flag.present]
    given = [f"--{flag.name}" for flag in used if flag.value not in (None, False)]
    if given:
        have, it = ("has", "it") if len(given) == 1 else ("have", "them")
        raise SettingError(f"{', '.join(given)}: {have} no effect {why}; leave {it} out")


def _parse(argv, usage, positional, pass_on):
    if _HELP & set(argv[1:]):
        print(f"{usage.strip()}\n{flags.FLAGS.main_module_help()}", flush=True)
        sys.exit(0)
    try:
        arguments = flags.FLAGS(argv, known_only=pass_on)
    except flags.Error as error:
        _end(2, f"{str(error).rstrip('.')}; see --help")
    arguments = [arguments[0], *map(_expanded, arguments[1:])]
    for flag in flags.FLAGS.get_key_flags_for_module(argv[0]):
        empty = not any(flag.value) if isinstance(flag.value, list) else flag.value == ""
        if flag.present and empty and flag.default != "":
            # Of a shell's variable that is not set: the flag would have no effect.
            _end(2, f"--{flag.name} is empty; give it a value, or leave it out")
        if isinstance(flag.value, str):
            flag.value = _expanded(flag.value)
        elif isinstance(flag.value, list):
            flag.value = [*map(_expanded, flag.value)]
    given = arguments[1:]
    if "" in given:  # would be the current folder
        _end(2, f"argument {given.index('') + 1} is empty; give it a value")
    names = positional() if callable(positional) else positional
    required = sum(not name.startswith("[") for name in names)
    most = math.inf if names and names[-1].endswith("...]") else len(names)
    if not pass_on and not required <= len(given) <= most:
        wanted = " ".join(names) if names else "no positional arguments"
        _end(2, f"expected {wanted}, got {len(given)}: {' '.join(given) or 'none'}; see --help")
    return arguments


def _expanded(value):
    """Expands `~/`, also in `name=~/file`: a shell leaves it unchanged behind the = of a flag."""
    name, path = re.fullmatch(r"([\w.-]+=)?(.*)", str(value), re.DOTALL).groups("")
    return name + os.path.expanduser(path) if path.startswith(f"~{os.sep}") else value


def _guarded(main, arguments):
    try:
        with _terminable():
            status = main(*arguments) or 0
        sys.stdout.flush()
        return status
    except flags.Error as error:
        _end(2, f"{str(error).rstrip('.')}; see --help")
    except SettingError as error:
        _end(2, f"{error}; see --help")
    except FidMedError as error:
        _end(2 if error.wrong_flag else 1, str(error))
    except BrokenPipeError:
        raise
    except OSError as error:
        # The user can fix a full disk or a missing permission; a traceback would not help.
        _end(2 if is_wrong_path(error) else 1, _reason(error))
    except KeyboardInterrupt as error:
        # A training sets the status, and a message that says how to resume.
        _end(getattr(error, "status", 130), str(error) or "interrupted")


def _reason(error: OSError) -> str:
    """The path first, as in our own messages, and no number of the error."""
    if error.filename is None or error.filename2 is not None or not error.strerror:
        return str(error)
    return f"{os.fsdecode(error.filename)}: {error.strerror}"


def _end(status, message):
    sys.stdout.flush()
    line = cut_message(" ".join(str(message).split()))
    program = sys.argv[0].removesuffix(f"{os.sep}__main__.py")  # of `python -m`: the package
    print(f"{os.path.basename(program)}: error: {line}", file=sys.stderr)
    sys.exit(status)


def prepare_tensorflow() -> None:
    """Selects TensorFlow as Keras's backend, whatever `keras.json` and KERAS_BACKEND say.

    Nothing is imported: a script calls this first, so that the library can refuse wrong arguments
    before it loads TensorFlow.
    """
    os.environ["KERAS_BACKEND"] = "tensorflow"
    # Keras imports matplotlib, which logs that it builds its font cache on first use.
    logging.getLogger("matplotlib").setLevel(logging.WARNING)


def load_tensorflow() -> None:
    """Imports TensorFlow without its start-up messages, and selects it as Keras's backend.

    The settings in `keras.json` and KERAS_BACKEND are overridden.
    """
    prepare_tensorflow()
    import_tensorflow()
    from fid_med.extractors.keras_settings import set_plain

    set_plain()
