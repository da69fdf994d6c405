#!/usr/bin/env python3
"""How often the verdict of a comparison is right, on sets that are known to be equal or to differ.

python -m benchmarks.verdict_study REAL.npz DEGRADED.npz ... --counts=40,100 --draws=100

Each file holds features (compute_fid.py --save_features). Of REAL, the second half of the images
must be those that were degraded, so that no image is on both sides. Every draw takes other images.

With --gaussian, every DEGRADED file holds all images of REAL, degraded. Both sides are then drawn
from Gaussians with the mean and the covariance of the two files, in any number. This shows how the
verdict behaves for such moments. It does not show that features of radiographs are Gaussian.
"""

import pathlib

import numpy as np
from absl import app, flags

from benchmarks.verdicts import study
from fid_med.metrics.feature_files import load_features

_COUNTS = flags.DEFINE_list("counts", ["40", "100"], "Images per side.")
_DRAWS = flags.DEFINE_integer("draws", 100, "Draws of each kind.", lower_bound=1)
_GAUSSIAN = flags.DEFINE_bool(
    "gaussian", False, "Draw from Gaussians with the moments of the files, not from their images."
)
_PERMUTATIONS = flags.DEFINE_integer("permutations", 199, "Permutations of a test.", lower_bound=19)
_REPLICATES = flags.DEFINE_integer("replicates", 100, "Splits of a debiased FID.", lower_bound=2)


def main(argv):
    real, *degraded = [load_features(path, ()).features.astype(np.float64) for path in argv[1:]]
    names = [pathlib.Path(path).stem for path in argv[2:]]
    options = {"permutations": _PERMUTATIONS.value, "replicates": _REPLICATES.value}
    options["gaussian"] = _GAUSSIAN.value
    of_real = real if _GAUSSIAN.value else real[: len(real) // 2]
    print("images per side, set, share of draws with a claim, FID, real against real")
    for count in map(int, _COUNTS.value):
        sets = {"equal": (real, None)}
        sets |= {n: (of_real, x) for n, x in zip(names, degraded, strict=True)}
        for name, pair in sets.items():
            share, fid, base = study(*pair, count, _DRAWS.value, **options)
            print(f"{count}, {name}, {share:.2f}, {fid:.3g}, {base:.3g}", flush=True)


if __name__ == "__main__":
    app.run(main)
