"""Runs scripts in forks of one process that has imported TensorFlow already.

A line of JSON on stdin asks for a run: `argv`, `env`, `cwd`, `stdout` and `stderr` (files). The
answer on stdout is the exit status. Each run is a process of its own, with flags, environment and
exit status of its own. Only the four seconds of the import are shared.
"""

import json
import os
import runpy
import sys
import traceback


def main():
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    import keras  # noqa: F401
    import matplotlib  # noqa: F401
    import scipy.linalg  # noqa: F401
    import tensorflow

    # Reports a missing GPU, once.
    tensorflow.config.list_physical_devices()
    for line in sys.stdin:
        request = json.loads(line)
        child = os.fork()
        if not child:
            _run(**request)
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


def _run(argv, env, cwd, stdout, stderr):
    for name, fd in ((os.devnull, 0), (stdout, 1), (stderr, 2)):
        os.dup2(os.open(name, os.O_RDWR), fd)
    os.environ.clear()
    os.environ.update(env)
    os.chdir(cwd)
    status = 0
    try:
        _as_main(argv)
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
        if end.code is not None and not isinstance(end.code, int):
            print(end.code, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
        status = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def _as_main(argv):
    """What `python ARGV` does: a script's path, or -m and a module, and its arguments."""
    root = os.environ["PYTHONPATH"].split(os.pathsep)
    if argv[0] == "-m":
        sys.argv, sys.path[:1] = argv[1:], [os.getcwd(), *root]
        runpy.run_module(argv[1], run_name="__main__", alter_sys=True)
    else:
        sys.argv, sys.path[:1] = argv, [os.path.dirname(argv[0]), *root]
        runpy.run_path(argv[0], run_name="__main__")


if __name__ == "__main__":
    main()
