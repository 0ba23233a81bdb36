"""What the guard learns from simulated refinements, keeps in a file, and says of a change."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from SVLDRLCore.mask_refinement.guard import (
    FEWEST_IMAGES,
    FEWEST_SAMPLES,
    LARGEST_LOSS,
    NO_HELP,
    UNLIKE,
    Guard,
    Sample,
    fit_guard,
    usual_images,
)
from SVLDRLCore.mask_refinement.guard_file import guard_bytes, parse_guard
from SVLDRLCore.mask_refinement.guard_learning import cases_for
from SVLDRLCore.mask_refinement.guard_signs import LIKENESS, SIGNS, ChangeSigns

NAMES = ("atrium",)


def look(rng: np.random.Generator, doubt: float, unlike: float) -> ChangeSigns:
    """Signs of chance, but for the model's doubt; an image so many standard deviations off."""
    signs = rng.standard_normal(len(SIGNS))
    signs[SIGNS.index("doubt of the model")] = doubt
    return ChangeSigns(signs, unlike + 0.1 * rng.standard_normal(len(LIKENESS)))


def learned() -> Guard:
    """From samples where a doubtful model ruins and a sure one helps, and doubt comes with unlike images."""
    rng = np.random.default_rng(0)
    samples = []
    for n in range(60):
        as_is, doubt = n % 3 == 0, rng.uniform(-1, 1)
        seen = look(rng, doubt if not as_is else -1.0, 0.0 if as_is else 1.0)
        gain = 8.0 if as_is else -20.0 * doubt
        samples.append(Sample(n // 6, 0, seen, gain, as_is, n % 2 == 0))
    likeness = {0: [sample.seen.likeness for sample in samples if sample.as_is]}
    guard = fit_guard(samples, usual_images(likeness, {0: [-1.0]}))
    assert guard is not None
    return guard


def test_a_doubtful_model_on_an_unlike_image_is_refused_and_a_sure_one_on_a_like_image_taken() -> None:
    guard, rng = learned(), np.random.default_rng(1)
    good, bad = guard.judge(0, look(rng, -1.0, 0.0)), guard.judge(0, look(rng, 0.9, 1.0))
    assert good is not None
    assert good.expected_gain > 1
    assert good.reason == ""
    assert bad is not None
    assert bad.expected_gain < -1
    assert bad.reason == UNLIKE
    assert guard.judge(1, look(rng, -1.0, 0.0)) is None  # nothing is known of this structure


def test_on_a_like_image_a_refusal_says_that_nothing_helps() -> None:
    guard = replace(learned(), offset=-5.0)
    verdict = guard.judge(0, look(np.random.default_rng(1), -1.0, 0.0))
    assert verdict is not None
    assert verdict.reason == NO_HELP


def test_the_margins_keep_right_masks_from_losing_much() -> None:
    guard = learned()
    assert guard.margin >= 0
    assert guard.own_margin <= 0
    rng = np.random.default_rng(2)
    losses = []
    for _ in range(200):
        doubt = rng.uniform(-1, 1)
        verdict = guard.judge(0, look(rng, doubt, 1.0))
        assert verdict is not None
        losses.append(20.0 * doubt if not verdict.reason else 0.0)
    assert max(losses) <= LARGEST_LOSS + 1.0


def test_too_little_to_learn_from_gives_no_guard() -> None:
    rng = np.random.default_rng(0)
    few = [Sample(n, 0, look(rng, 0.0, 0.0), 1.0, True, True) for n in range(FEWEST_SAMPLES - 1)]
    usual = usual_images({0: [sample.seen.likeness for sample in few]}, {0: [0.0]})
    assert fit_guard(few, usual) is None
    assert usual_images({0: [few[0].seen.likeness] * (FEWEST_IMAGES - 1)}, {0: [0.0]}) == {}
    assert cases_for(100) == 0
    assert cases_for(10**6) == cases_for(10**4)


def test_the_file_gives_the_same_guard() -> None:
    guard = learned()
    assert parse_guard(guard_bytes(guard, NAMES), NAMES) == guard


@pytest.mark.parametrize(
    ("key", "value", "why"),
    [
        ("format", 2, "format"),
        ("inputs", {}, "other signs"),
        ("offset", "high", "offset"),
        ("margin", 1e300, "margin"),
        ("structures", {"ventricle": {}}, "other signs or structures"),
        ("structures", {"atrium": {}}, "likeness"),
    ],
)
def test_a_damaged_file_is_refused_by_name(key: str, value: object, why: str) -> None:
    content = json.loads(guard_bytes(learned(), NAMES))
    with pytest.raises(ValueError, match=why):
        parse_guard(json.dumps(content | {key: value}).encode(), NAMES)


def test_a_scatter_of_zero_is_refused() -> None:
    content = json.loads(guard_bytes(learned(), NAMES))
    content["inputs"]["change"]["scale"] = 0
    with pytest.raises(ValueError, match="not positive"):
        parse_guard(json.dumps(content).encode(), NAMES)
