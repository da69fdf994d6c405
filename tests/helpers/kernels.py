"""What depends on the kernels that imitate another processor."""

import os

import pytest

# TensorFlow hands bfloat16 to oneDNN if the processor has it, and oneDNN then has no kernel. On a
# processor without AVX-512, TensorFlow does not ask oneDNN, so nothing is lost there.
needs_bfloat16 = pytest.mark.skipif(
    "ONEDNN_MAX_CPU_ISA" in os.environ,
    reason="no bfloat16 in oneDNN: ONEDNN_MAX_CPU_ISA imitates an older processor",
)
