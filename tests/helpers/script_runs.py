"""Runs a script of this checkout as its user does."""

import os
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).parents[2]


def run_script(script, *arguments, **variables):
    """The finished process; `script` may also be an interpreter's own flag, such as -m.

    Args:
      script: path, or flag.
      arguments: of the script.
      variables: of its environment, added to ours.
    """
    return subprocess.run(
        [sys.executable, *map(str, (script, *arguments))],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)} | variables,
        timeout=300,
        check=False,
    )
