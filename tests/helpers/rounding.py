"""How far two float32 runs of one network may be apart, derived from rounding.

A kernel for another processor, another number of threads or another batch size adds the same
numbers in another order. Each addition rounds by at most eps / 2 of its result, eps = 1.2e-7. The
errors of n additions behave like a random walk of n steps: sqrt(n) eps / 2 is their standard
deviation, and four standard deviations are the bound.
"""

import numpy as np

EPS = float(np.finfo(np.float32).eps)


def rounding(additions: int) -> float:
    """The bound relative to the largest result, after so many additions in a row."""
    return 2 * additions**0.5 * EPS


# Relative to the largest feature: 5.2e-5. The longest way through InceptionV3 has 47 convolutions,
# whose kernels have 27 (3 x 3 x 3) to 4,032 (3 x 3 x 448) weights per output, 48,000 together.
# Random weights amplify rounding most: between oneDNN's kernels for AVX-512, AVX2 and SSE4.1,
# TensorFlow's own, folded and not, they showed 1.2e-5 at 75 pixels and 2.5e-5 at 150 pixels.
# A wrong epsilon (1e-5) of one layer alone changes features by 6e-4 or more, of all by 0.2.
FEATURES = rounding(48_000)

# Relative to the FID: 5.2e-5. The errors of 2,048 features are independent and average out: noise
# of the whole bound in every feature changes the FID between two halves of the phantoms by 2e-5,
# the kernels above by 3e-7. One image more or less changes it by percents.
FID = FEATURES
