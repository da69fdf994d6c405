"""The command `fid-med`, also `python -m fid_med`: one subcommand per script.

The scripts keep their flags themselves; this module finds the script and runs it.
"""

import importlib.metadata
import pathlib
import runpy
import sys

# Subcommand: the script's folder in the repository, and what it does.
SCRIPTS = {
    "compute-fid": ("eval", "Compute the FID between real and generated images."),
    "train-classifier": ("train", "Train an extractor on labelled radiographs."),
    "disturbance-study": ("eval", "Test whether the FID rises as images get worse."),
    "validate-reference": ("eval", "Check every part against independent values."),
    "compute-statistics-beam": ("eval", "Compute statistics of images with Apache Beam."),
}
DEMO = "demo"

USAGE = "\n".join(
    [
        "usage: fid-med COMMAND [arguments and flags of the command]",
        "",
        "Fréchet inception distance for radiographs. Commands:",
        "",
        *(f"  {name:<24} {text}" for name, (_, text) in SCRIPTS.items()),
        f"  {DEMO:<24} Run the main job on phantoms, without data or downloads.",
        "",
        "fid-med COMMAND --help lists the flags of a command.",
    ]
)


def main() -> None:
    """Runs the subcommand that the command line names and ends the process with its status."""
    command, *arguments = sys.argv[1:] or [""]
    if command in ("--help", "-h"):
        print(USAGE)
        return
    if command == DEMO:
        sys.argv[1:] = arguments
        runpy.run_module("fid_med.demo", run_name="__main__", alter_sys=True)
        return
    if command not in SCRIPTS:
        wrong = f"unknown command {command!r}" if command else "no command given"
        known = ", ".join([*SCRIPTS, DEMO])
        _end(2, f"{wrong}; expected one of {known}; see --help")
    script = _script(command)
    # Flags, messages and absl's help take the name of the program from here.
    sys.argv = [str(script), *arguments]
    runpy.run_path(str(script), run_name="__main__")


def _script(command):
    """The path of a subcommand's script: in this checkout, or where pip installed it."""
    name = command.replace("-", "_") + ".py"
    in_checkout = pathlib.Path(__file__).parents[1] / SCRIPTS[command][0] / name
    if in_checkout.is_file():
        return in_checkout
    try:
        files = importlib.metadata.files("fid_med") or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    for file in files:
        if file.name == name and file.locate().is_file():
            return file.locate()
    _end(1, f"{name} is not installed; install fid_med again with pip")


def _end(status, message):
    print(f"fid-med: error: {message}", file=sys.stderr)
    sys.exit(status)


if __name__ == "__main__":
    main()
