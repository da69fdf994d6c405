"""The examples in the docstrings of the public functions run as they are written."""

import inspect
import re

import pytest

from fid_med.metrics.frechet import calculate_frechet_distance, frechet_distance
from fid_med.metrics.statistics import FeatureStatistics

_BLOCK = re.compile(r"```python\n(.*?)```", re.DOTALL)


@pytest.mark.parametrize(
    "documented", [calculate_frechet_distance, frechet_distance, FeatureStatistics]
)
def test_the_example_runs(documented):
    (block,) = _BLOCK.findall(inspect.getdoc(documented))
    exec(block, {})
