"""What depends on the kernels that imitate another processor."""

import os

import pytest

# TensorFlow gives bfloat16 and float16 to oneDNN if the processor has them, and oneDNN then has no
# kernel. On a processor that lacks them TensorFlow does not ask oneDNN, so nothing is lost there.
IMITATED = "ONEDNN_MAX_CPU_ISA" in os.environ
needs_low_precision = pytest.mark.skipif(
    IMITATED,
    reason="no 16-bit kernels in oneDNN: ONEDNN_MAX_CPU_ISA imitates an older processor",
)
