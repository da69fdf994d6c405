"""The verdict: its words at both ends, and that it claims no more than the statistics."""

import re

import numpy as np
import pytest

from fid_med.evaluation.compute import compute_fid
from fid_med.evaluation.verdict import judge
from fid_med.metrics.feature_files import save_features
from fid_med.metrics.statistics import FeatureStatistics

ORIGIN = "extractor chest (c2d0d269cbe1), 2048 features, fid_med 1"


def metrics(fid=12.7, p=0.001, low=7.0, high=10.0, **changes):
    return {
        "fid": {"value": fid},
        "debiased": {"value": 8.4, "low": low, "high": high, "confidence": 0.95},
        "permutation": {"p_value": p},
        "baseline": {"mean": 4.2, "sd": 0.5, "detectable": 0.83},
    } | changes


def verdict(exchangeable=True, unavailable=(), **changes):
    return judge(metrics(**changes), dict(unavailable), exchangeable, ORIGIN, [60, 60])


def test_sets_that_differ():
    found = verdict()
    assert found.differ is True
    assert found.test == "permutation"
    assert found.text == (
        "Real against real at these counts: 4.2 +- 0.5. Yours: 12.7, 3.02 times that, so the "
        "sets differ (permutation p = 0.001). Debiased FID: 8.4 (95% interval 7 to 10)."
    )
    assert found.to_report == (
        "debiased FID 8.4 (95% interval 7 to 10); FID 12.7; real against real 4.2 +- 0.5; "
        f"60 real and 60 generated images; {ORIGIN}"
    )


def test_sets_that_do_not_differ_are_not_called_equal():
    found = verdict(fid=4.3, p=0.4, low=-0.5, high=0.6)
    assert found.differ is False
    assert found.text == (
        "Real against real at these counts: 4.2 +- 0.5. Yours: 4.3, 1.02 times that: no difference "
        "is detectable at this sample size (permutation p = 0.4). The smallest detectable debiased "
        "FID is about 0.83; a smaller difference is not excluded."
    )
    for word in ("equal", "same", "identical", "good"):
        assert word not in found.text


def test_a_difference_of_unknown_size():
    found = verdict(fid=5.4, p=0.03, low=-0.1, high=2.0)
    assert found.differ is True
    assert "so the sets differ (permutation p = 0.03)" in found.text
    assert "How far is not known: the 95% interval of the debiased FID" in found.text


def test_tests_that_disagree():
    found = verdict(fid=5.4, p=0.06, low=0.1, high=2.0)
    assert found.differ is False
    assert "The two tests disagree" in found.text


def test_the_confidence_sets_the_level():
    debiased = {"value": 1.0, "low": 0.1, "high": 2.0, "confidence": 0.9}
    assert verdict(p=0.08, debiased=debiased).differ is True
    assert verdict(p=0.08).differ is False


def test_patients_on_one_side_are_judged_by_the_interval():
    found = verdict(exchangeable=False)
    assert (found.differ, found.test) == (True, "interval")
    assert "(the 95% interval of the debiased FID, 7 to 10, excludes 0)" in found.text
    found = verdict(exchangeable=False, low=-1.0)
    assert found.differ is False
    assert "p =" not in found.text


def test_a_fid_far_below_the_baseline_is_suspicious():
    found = verdict(fid=1.0, p=1.0, low=-3.0, high=0.2)
    assert found.differ is False
    assert "lower than chance explains: look for copies" in found.text
    assert found.to_report.startswith("not before copies are excluded: debiased FID")
    assert "chance explains" not in verdict(fid=3.0, p=1.0, low=-3.0, high=0.2).text


def test_an_interval_below_zero_is_not_said_to_contain_it():
    found = verdict(exchangeable=False, fid=3.5, low=-1.23, high=-0.39)
    assert (found.differ, found.test) == (False, "interval")
    assert "-1.23 to -0.39, is below 0)" in found.text
    assert found.text.index("lower than chance") < found.text.index("No difference is detectable")
    assert found.to_report.startswith("not before copies are excluded")


def test_what_was_not_tested_is_not_claimed():
    reason = "the generated statistics hold no features"
    missing = {"debiased": None, "permutation": None}
    found = judge(metrics(**missing), dict.fromkeys(missing, reason), True, ORIGIN, [60, 60])
    assert (found.differ, found.test) == (None, None)
    assert found.text == (
        f"Real against real at these counts: 4.2 +- 0.5. Yours: 12.7, 3.02 times that. "
        f"Not tested: {reason}."
    )
    found = judge({"fid": {"value": 3.0}}, {}, True, ORIGIN, [50_000, 50_000])
    assert found.differ is None
    assert "For sets this large no baseline is computed by default" in found.text
    assert found.to_report.startswith("FID 3; 50000 real and 50000 generated images; extractor")


@pytest.fixture
def saved(tmp_path):
    """Files of features, statistics alone, and of two distributions."""
    rng = np.random.default_rng(0)
    for name, shift in (("real", 0), ("equal", 0), ("far", 1.5)):
        features = rng.normal(size=(40, 12)) + shift * (np.arange(12) == 3)
        statistics = FeatureStatistics.from_features(features)
        save_features(tmp_path / f"{name}.npz", statistics, features, None)
        statistics.save(tmp_path / f"{name}_alone.npz")
    return {path.stem: path for path in tmp_path.iterdir()}


def test_every_comparison_of_features_has_a_verdict(saved):
    far = compute_fid(saved["real"], saved["far"])
    assert far.verdict.differ is True
    assert far.metrics["baseline"]["real_count"] == 40
    assert far.summary()[-2:] == [
        f"verdict: {far.verdict.text}", f"to report: {far.verdict.to_report}"
    ]  # fmt: skip
    assert far.to_dict()["verdict"]["differ"] is True
    assert compute_fid(saved["real"], saved["equal"]).verdict.differ is False
    named = compute_fid(saved["real"], saved["far"], metrics=["kid"])
    assert named.verdict == far.verdict


def test_statistics_alone_give_a_baseline_or_a_reason(saved):
    one = compute_fid(saved["real"], saved["far_alone"])
    assert one.verdict.differ is None
    assert one.verdict.text.startswith("Real against real at these counts")
    none = compute_fid(saved["real_alone"], saved["far"])
    assert none.verdict.text.startswith("No baseline (the real statistics hold no features")
    lines = [line for line in none.summary() if "unavailable" in line]
    assert len(lines) == 1
    names, value, reason = re.split("  +", lines[0])
    assert (names, value) == ("debiased, permutation, baseline", "unavailable")
    assert reason.startswith("the real statistics hold no features")
