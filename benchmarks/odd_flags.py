#!/usr/bin/env python3
"""Gives odd values to every flag and argument of every script, and counts what should not happen.

python -m benchmarks.odd_flags

Each script runs in this process, with one odd value of one flag or positional argument at a time,
to its end or to the first import of TensorFlow, Keras or Apache Beam. A wrong value must end with
status 2 and one line, before any of these is imported; a file or folder that is there, with the
wrong content, may also end with status 1. Faults are a traceback, several lines, a wrong value that
is accepted, a right one that is refused, and more than 10 seconds. 7,000 runs take half a minute.
"""

import io
import os
import pathlib
import resource
import runpy
import sys
import tempfile
import time
import traceback
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from absl import flags
from PIL import Image

_ROOT = pathlib.Path(__file__).parents[1]
_SLOW = ("tensorflow", "keras", "apache_beam")
_STARTED, _SECONDS, _MEMORY = 99, 10, 4 << 30
COUNTS = ("refused", "wrong data", "accepted", "faults")

# {} is a folder with `images`, `labelled` (folders of images), `finished` (a training), `file` (a
# text) and `real.npz`.
VALUES = (
    "", " ", "nan", "NaN", "inf", "-inf", "1e300", "-1e300", "1e-300", "-1", "-0", "0", "00", "1",
    "+1", "1.5", ".5", "1e5", "100", str(2**31), str(2**32), str(2**63), str(10**30), "0x10",
    "1_000", "\u0661", "\u00bd", "\u65e5\u672c", "\U0001f9b4", "\udcff", "a b", ";", ",", ",,",
    "a,b", "a,a", "None", "True", "False", "'", '"', "''", "\n", "a\nb", "\t", "x" * 300,
    "x" * 5000, "/proc/nowhere", "/dev/null", "/dev/full", "{}/images",
    "{}/file", "{}/file/x", "{}/real.npz", "~nobody", "%s", "*", "-", "--", "\\", "(", "[", "=",
)  # fmt: skip

# Numbers that are right.
_NUMBERS = {
    "batch_size": lambda x: 1 <= x <= 65_536,
    "image_size": lambda x: 75 <= x <= 4096,
    "seed": lambda x: 0 <= x < 2**32,
    "confidence": lambda x: 0 < x < 1,
    "phantoms": lambda x: 20 <= x <= 1e6,
    "epochs": lambda x: 1 <= x <= 1e6,
    "patience": lambda x: 1 <= x <= 1e6,
    "learning_rate": lambda x: 0 < x <= 1000,
    "label_smoothing": lambda x: 0 <= x < 1,
    "average_weights": lambda x: 0 <= x < 1,
    "clip_norm": lambda x: 0 <= x <= 1e6,
    "num_gpus": lambda x: 0 <= x <= 1024,
    "rotation": lambda x: 0 <= x <= 180,
    "crop": lambda x: 0 < x <= 1,
    "translation": lambda x: 0 <= x < 1,
    "brightness": lambda x: 0 <= x < 1,
    "contrast": lambda x: 0 <= x < 1,
    "gamma": lambda x: 0 <= x <= 100,
    # The other fraction is 0.2.
    "validation_fraction": lambda x: 0 < x < 0.8,
    "test_fraction": lambda x: 0 <= x < 0.8,
    "repeats": lambda x: 20 <= x <= 10_000,
    "num_images": lambda x: x >= 8,
    "threads_per_worker": lambda x: 0 <= x <= 1024,
}
# Values that are there. What they contain may be wrong.
_THERE = {"{}/images", "{}/file", "{}/real.npz"}
# Files, folders and names that are right; all others are not.
_NAMES = {
    "cifar10": {"{}/images"}, "contamination": {"{}/images"}, "data_dir": {"{}/labelled"},
    "dataset": (), "disturbances": (), "example_image": (), "extractor": (), "extractors": (),
    "generated": {"{}/images"}, "generated_patient_regex": {"."},
    "graph": {"{}/file", "{}/real.npz"}, "label": (), "labels_csv": (), "metrics": (),
    "only": (), "other_generated": {"{}/images"}, "output": {"{}/real.npz"}, "patient_regex": {"."},
    "plan": {"100"}, "ratings": (), "require": (),
    "splits": (), "train_from": (), "train_images": {"{}/images"}, "transfer": {"{}/images"},
    "weights": (), "without_labels": (),
}  # fmt: skip


class Script(NamedTuple):
    """A script to run.

    Attributes:
      path: below the repository.
      arguments: a command line that is right; {} is the folder.
      others: other command lines by flag, with which it has an effect.
      right: what its positional arguments may be.
    """

    path: str
    arguments: Sequence[str]
    others: dict[str, Sequence[str]]
    right: Sequence[str] = ("{}/images",)

    @property
    def name(self) -> str:
        """The script's name without its suffix."""
        return pathlib.Path(self.path).stem


_FID = ("{}/images", "{}/images", "--extractor=random")
_TRAIN = ("--output_dir={}/trained",)
_BEAM = ("{}/images", "--output={}/out.npz")
_VALIDATE = ("--only=frechet_forms",)
SCRIPTS = (
    Script(
        "eval/compute_fid.py", _FID,
        {
            "train_images": (*_FID, "--metrics=memorisation"),
            "other_generated": (*_FID, "--metrics=paired"),
            "save_features": (*_FID, "--save_statistics={}/saved"),
            "splits": (*_FID, "--split=test"),
            "figures": (*_FID, "--metrics=difference"),
            "plan": ("{}/images", "--extractor=random"),
        },
        ("{}/images", "{}/real.npz"),
    ),
    Script(
        "train/train_classifier.py", (*_TRAIN, "--data_dir={}/labelled"),
        # Ends before it draws them.
        {"phantoms": ("--output_dir={}/finished", "--dataset=phantom")},
    ),
    Script(
        "eval/disturbance_study.py",
        ("{}/images", "--output_dir={}/study", "--extractors=random"), {},
    ),
    Script(
        "eval/validate_reference.py", _VALIDATE, {"tfds_data_dir": (*_VALIDATE, "--cifar10=tfds")}
    ),
    Script(
        "eval/compute_statistics_beam.py", _BEAM, {"seed": (*_BEAM, "--extractor=random")}
    ),
)  # fmt: skip


class _Blocker:
    """Ends a script at the first import of a slow package."""

    @staticmethod
    def find_spec(name, path=None, target=None):
        if name in _SLOW:
            raise SystemExit(_STARTED)


class _Stream(io.TextIOWrapper):
    def __init__(self):
        super().__init__(io.BytesIO(), "utf-8", "backslashreplace")

    def lines(self):
        self.flush()
        return self.buffer.getvalue().decode().splitlines()


class Run(NamedTuple):
    """How a script ended.

    Attributes:
      status: exit status; 99 if it began the slow part.
      errors: its lines on stderr that are no warnings.
      traceback: of an exception, or None.
      seconds: how long it took.
    """

    status: int
    errors: list[str]
    traceback: str | None
    seconds: float


def run(script: pathlib.Path, arguments: Sequence[str]) -> Run:
    """Runs a script in this process, up to the slow part."""
    saved = sys.argv, sys.stdout, sys.stderr
    loaded = {name: sys.modules.pop(name) for name in _SLOW if name in sys.modules}
    sys.argv, sys.stdout, sys.stderr = [str(script), *arguments], _Stream(), _Stream()
    errors, status, raised, begin = sys.stderr, 0, None, time.monotonic()
    sys.meta_path.insert(0, _Blocker)
    try:
        runpy.run_path(str(script), run_name="__main__")
    except SystemExit as end:
        status = end.code or 0
    except BaseException:
        raised = traceback.format_exc()
    finally:
        sys.meta_path.remove(_Blocker)
        sys.argv, sys.stdout, sys.stderr = saved
        sys.modules.update(loaded)
    lines = [line for line in errors.lines() if not line.startswith("warning: ")]
    return Run(status, lines, raised, time.monotonic() - begin)


def flags_of(script: Script) -> dict[str, flags.Flag]:
    """The flags that a script defines, by name."""
    runpy.run_path(str(_ROOT / script.path), run_name=script.name)
    found = {flag.name: flag for flag in flags.FLAGS.get_flags_for_module(script.name)}
    for name in found:
        delattr(flags.FLAGS, name)
    return found


def _is_right(flag: flags.Flag, value: str) -> bool:
    """Whether a value must be accepted. Any text, and any name of a file to write, is right."""
    if flag.name in _NAMES:
        return value in _NAMES[flag.name]
    try:
        if flag.name in _NUMBERS:
            return bool(_NUMBERS[flag.name](flag.parser.convert(value)))
        if isinstance(flag, (flags.BooleanFlag, flags.EnumFlag)):
            flag.parser.parse(value)
    except (ValueError, TypeError):
        return False
    return value != "" or flag.default == ""


def check(script: Script, folder: pathlib.Path, names: Iterable[str], values: Sequence[str]):
    """Runs a script with each odd value of the named flags.

    Args:
      script: the script.
      folder: as `make_inputs` makes it.
      names: of flags, or the numbers of positional arguments.
      values: of each flag; {} stands for the folder.

    Yields:
      (name, value, one of `COUNTS`, details) of each run.
    """
    defined, before = flags_of(script), os.getcwd()
    for name in names:
        given = script.others.get(name, script.arguments)
        with tempfile.TemporaryDirectory(dir=folder) as empty:
            os.chdir(empty)  # relative names of outputs
            try:
                for value in values:
                    words = [*given, f"--{name}={value}"]
                    if isinstance(name, int):
                        count = _positional(script)
                        words = [*given[count:], "--", *given[:count]]
                        words[name - count] = value
                    words = [word.replace("{}", str(folder)) for word in words]
                    found = run(_ROOT / script.path, words)
                    flag = defined.get(name)
                    right = _is_right(flag, value) if flag is not None else value in script.right
                    yield name, value, *_judge(found, flag, right, value)
            finally:
                os.chdir(before)


def _positional(script):
    """How many positional arguments a script has; they come first."""
    return sum(not word.startswith("--") for word in script.arguments)


def _judge(found: Run, flag: flags.Flag | None, right: bool, value: str) -> tuple[str, str]:
    """One of `COUNTS`, and what is wrong; the flag is None for a positional argument."""
    if found.traceback:
        return "faults", found.traceback
    if found.seconds > _SECONDS:
        return "faults", f"{found.seconds:.0f} s"
    if found.status in (0, _STARTED):
        return ("accepted", "") if right else ("faults", "accepted")
    if found.status not in (1, 2) or len(found.errors) != 1:
        return "faults", f"status {found.status}, {found.errors}"
    # A name to write may be no file's, and an input that is right may not fit the others.
    typed = isinstance(flag, (flags.BooleanFlag, flags.EnumFlag))
    known = typed or flag is None or flag.name in {*_NUMBERS, *_NAMES}
    if (right and known and found.status == 2) or (
        not right and found.status == 1 and value not in _THERE
    ):
        return "faults", f"status {found.status}, {found.errors}"
    return ("refused" if found.status == 2 else "wrong data"), ""


def make_inputs(folder: pathlib.Path) -> None:
    """Writes the files and folders that `VALUES` and `SCRIPTS` name."""
    for name in ("images", "labelled/a", "labelled/b", "cifar10"):
        (folder / name).mkdir(parents=True)
    for i in range(3):
        pixels = np.random.default_rng(i).integers(0, 256, (80, 80), dtype=np.uint8)
        for name in ("images", "labelled/a", "labelled/b"):
            Image.fromarray(pixels).save(folder / name / f"{i}.png")
    (folder / "finished").mkdir()
    (folder / "finished" / "training.json").touch()
    (folder / "file").write_text("x")
    np.savez(folder / "real.npz", mu=np.zeros(4), sigma=np.eye(4), count=100)


def main() -> int:
    """Prints one line of counts per script."""
    bad = False
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        make_inputs(folder)
        for script in SCRIPTS:
            begin, counts = time.monotonic(), dict.fromkeys(COUNTS, 0)
            names = [*range(_positional(script)), *sorted(flags_of(script))]
            for flag, value, status, details in check(script, folder, names, VALUES):
                counts[status] += 1
                if status == "faults":
                    print(f"{script.name} --{flag}={value[:80]!a}: {details}", file=sys.stderr)
            text = ", ".join(f"{key} {count}" for key, count in counts.items())
            seconds = time.monotonic() - begin
            print(
                f"{script.name}: flags, arguments {len(names)}, {text}, {seconds:.0f} s",
                flush=True,
            )
            bad |= counts["faults"] > 0
    return int(bad)


if __name__ == "__main__":
    sys.exit(main())
