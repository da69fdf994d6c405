"""The words of the recommendation, at both ends: they claim what the numbers show, and no more."""

import numpy as np
import pytest

from fid_med.study.judgement import judge
from fid_med.study.recommendation import recommend
from fid_med.study.report.recommendation_wording import describe_recommendation

UP, FLAT, DOWN = (1, 2, 3, 4), (1, 1, 1, 1), (1, 5.6, 9.5, 8.7)
DISTURBANCES = ("gaussian_blur", "swirl", "salt_and_pepper")


def fids(means, spread=0.05, seed=0):
    return np.asarray(means, float) + spread * np.random.default_rng(seed).normal(size=(200, 4))


def record(means, transfer=None):
    """What the words are made from: {(extractor, dims): means of each disturbance}."""
    measures = {
        f"{name}, multi-depth" if dims is None else f"{name} at {dims}": {
            "extractor": name, "dims": dims
        }
        for name, dims in means
    }  # fmt: skip
    values = [
        {d: fids(x, seed=k) if np.ndim(x) == 1 else x
         for k, (d, x) in enumerate(zip(DISTURBANCES, of, strict=True))}
        for of in means.values()
    ]  # fmt: skip
    sets = {"in-domain": {"images_a_side": 100}}
    if transfer is not None:
        judged = {d: judge(fids(x)).to_dict() for d, x in zip(DISTURBANCES, transfer, strict=True)}
        sets["transfer"] = {"extractors": {name: {"disturbances": judged} for name in measures}}
    return {
        "settings": {"confidence": 0.95, "repeats": 200},
        "extractors": {},
        "measures": measures,
        "disturbances": dict.fromkeys(DISTURBANCES),
        "sets": sets,
        "recommendation": recommend(dict(zip(measures, values, strict=True)), 100),
    }


def words(means, transfer=None):
    return " ".join(describe_recommendation(record(means, transfer)))


def test_one_clearly_best():
    found = words({("my_net", 768): [UP] * 3, ("my_net", 2048): [DOWN, UP, UP]}, [UP, UP, DOWN])
    assert found == (
        "use my_net at 768 (--dims=768). Its FID rises at every step under all 3 disturbances, "
        "each in at least 95 % of 200 random splits with 100 images per side. On average over the "
        "disturbances, 100 % of the splits detect the weakest level. On the images of the "
        "--transfer folder it rises under 2 of 3 disturbances."
    )


def test_the_best_is_not_called_better_than_what_it_is_not_shown_to_beat():
    close = fids((1, 1.95, 3, 4), seed=9)
    found = words({("a", 64): [UP] * 3, ("a", None): [UP, close, FLAT]})
    assert found.startswith("use a at 64 (--dims=64). ")
    assert "better" not in found
    rival = words({("a", 64): [UP] * 3, ("a", None): [UP, fids((1, 3, 4, 5)), FLAT]})
    assert rival.endswith("Not shown to be worse: a, multi-depth.")


def test_what_stays_open_is_said_with_its_number_of_images():
    rising = fids((1, 1.25, 1.5, 1.75), spread=0.12)
    assert judge(rising).verdict == "undecided"
    found = words({("a", 768): [UP, rising, UP], ("a", 64): [DOWN] * 3})
    assert "rises at every step under 2 of 3 disturbances" in found
    assert "Under swirl the result is inconclusive: about " in found
    assert "images per side would decide, with 80 % power." in found
    far = words({("a", 768): [UP, FLAT, UP]})
    assert "Under swirl the result is inconclusive: more than 1,000 images per side may be" in far


def test_exact_ties_are_named_together():
    found = words({("a", 768): [UP] * 3, ("b", None): [UP] * 3, ("b", 64): [UP, FLAT, FLAT]})
    assert found.startswith("use a at 768 (--dims=768) or b, multi-depth (--metrics=depths). Each ")


@pytest.mark.parametrize(
    ("swirl", "first"),
    [
        (FLAT, "undecided: more than 1,000 images per side may be needed; this study has 100."),
        (None, "undecided: about "),
    ],
)
def test_undecided(swirl, first):
    swirl = fids((1, 1.25, 1.5, 1.75), spread=0.12) if swirl is None else swirl
    found = words({("a", 768): [UP, swirl, FLAT], ("a", 64): [UP, DOWN, DOWN]})
    assert found.startswith(first)
    assert found.endswith("Closest: a at 768, under 1 of 3.")
    assert (
        "No FID rises at every step under more than half of the disturbances in at least" in found
    )


def test_nothing_rises():
    found = words({("a", 768): [DOWN, UP, DOWN], ("a", 64): [DOWN, DOWN, DOWN]})
    assert found == (
        "use none of them as a measure of quality. Each FID has a disturbance under which it does "
        "not rise from one level to the next in at least 95 % of 200 random splits with 100 images "
        "per side. Closest: a at 768, rising under 1 of 3 disturbances, but not under gaussian "
        "blur and salt and pepper."
    )


def test_without_trained_weights_or_in_an_old_record_nothing_is_claimed():
    assert words({}) == "none: all extractors have random weights."
    old = record({("a", 768): [UP] * 3})
    del old["recommendation"]
    assert describe_recommendation(old) == []
