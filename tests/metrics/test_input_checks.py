"""The checks of the metrics' inputs; the tests of each metric cover their messages."""

import ml_dtypes
import numpy as np
import pytest

from fid_med.errors import StatisticsError
from fid_med.metrics.input_checks import (
    check_matrix,
    checked_count,
    checked_features,
    checked_fraction,
    patient_indices,
    real_array,
)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.int8, np.uint64])
def test_features_become_a_new_float64_array(dtype):
    given = np.ones((2, 3), dtype)
    features = checked_features(given, "real")
    assert features.dtype == np.float64
    assert not np.shares_memory(features, given)


def test_bfloat16_is_a_real_number():
    assert checked_features(np.ones((2, 3), ml_dtypes.bfloat16), "real").sum() == 6


@pytest.mark.parametrize("dtype", [bool, complex, object, "U1", "M8[s]", "V8", [("a", "f4", 2)]])
def test_other_dtypes_are_errors(dtype):
    with pytest.raises(StatisticsError, match=r"x of dtype .*: expected real numbers"):
        check_matrix(np.zeros((2, 3), dtype), "x")


@pytest.mark.parametrize("value", [0, 4, True, 1.0, "1", None])
def test_what_is_not_a_whole_number_in_range_is_an_error(value):
    assert checked_count(np.int32(3), "n", 1, 3) == 3
    with pytest.raises(StatisticsError, match=r"n .*: expected a whole number from 1 to 3"):
        checked_count(value, "n", 1, 3)


@pytest.mark.parametrize("value", [0, 1, True, "0.5", np.nan])
def test_what_is_not_a_fraction_is_an_error(value):
    assert checked_fraction(0.5, "p") == 0.5
    with pytest.raises(StatisticsError, match=r"p .*: expected a number between 0 and 1"):
        checked_fraction(value, "p")


def test_patients_are_numbered_by_their_sorted_labels():
    indices, count = patient_indices(["b", "a", "b"], 3, "real")
    assert (indices.tolist(), count) == ([1, 0, 1], 2)
    indices, count = patient_indices(None, 3, "real")
    assert (indices.tolist(), count) == ([0, 1, 2], 3)
    with pytest.raises(StatisticsError, match="2 real patients for 3 images"):
        patient_indices([1, 2], 3, "real")
    with pytest.raises(StatisticsError, match=r"real patients of shape \(3, 1\)"):
        patient_indices(np.zeros((3, 1)), 3, "real")


def test_arrays_that_are_not_finite_are_errors():
    assert real_array([1, 2], "mu").dtype == np.float64
    with pytest.raises(StatisticsError, match="1 of 2 entries of mu are NaN or infinite"):
        real_array([1, np.inf], "mu")
