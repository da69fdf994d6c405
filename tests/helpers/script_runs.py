"""Runs a script of this checkout as its user does."""

import atexit
import functools
import json
import os
import pathlib
import subprocess
import sys
import tempfile

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


def fork_script(script, *arguments, **variables):
    """As `run_script`, in a fork of a process that has imported TensorFlow already.

    For the second and further mistakes of a script. What depends on the import itself, on the start
    or on the end of the interpreter needs `run_script`.
    """
    server = _fork_server()
    argv = [str(x) for x in (script, *arguments)]
    with tempfile.TemporaryDirectory() as folder:
        files = {x: os.path.join(folder, x) for x in ("stdout", "stderr")}
        for file in files.values():
            pathlib.Path(file).touch()
        request = {
            "argv": argv,
            "env": os.environ | {"PYTHONPATH": str(ROOT)} | variables,
            "cwd": os.getcwd(),
            **files,
        }
        server.stdin.write(json.dumps(request) + "\n")
        server.stdin.flush()
        status = int(server.stdout.readline())
        said = {x: pathlib.Path(file).read_text() for x, file in files.items()}
    return subprocess.CompletedProcess(argv, status, **said)


@functools.cache
def _fork_server():
    server = subprocess.Popen(
        [sys.executable, pathlib.Path(__file__).with_name("fork_server.py")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    atexit.register(server.stdin.close)  # its end
    return server
