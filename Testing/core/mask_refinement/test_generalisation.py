"""Mask agents are as careful on new cases as the network is worse there."""

from __future__ import annotations

import numpy as np
import pytest
from tiny_trainings import given_run, phantom_cases, run

from SVLDRLCore.data.cases import in_memory
from SVLDRLCore.mask_refinement.editing import LARGEST_FACTOR_OF_AGENTS, threshold_of
from SVLDRLCore.mask_refinement.generalisation import (
    UNKNOWN,
    WORTH_TELLING,
    generalisation_factors,
    what_to_tell,
)
from SVLDRLCore.masks.alignment import Calibration
from SVLDRLCore.masks.dice import dice_of_structures


def test_caution_is_the_ratio_of_both_errors() -> None:
    learned = np.array([[0.9, 0.8], [0.8, 0.8], [0.95, 0.8]])
    assert generalisation_factors(learned, np.array([[0.8, 0.8]] * 8)) == pytest.approx(
        [1 + (0.2 / 0.1 - 1) * 1.25, 1.0]
    )
    assert generalisation_factors(learned, np.array([[0.95, 0.7]])) == pytest.approx([1.0, 1 + (0.3 / 0.2 - 1) * 3])
    assert generalisation_factors(np.ones((3, 1)), np.array([[0.97]] * 2)) == pytest.approx([1 + (0.03 / 0.02 - 1) * 2])
    assert generalisation_factors(learned, np.array([[0.1, np.nan]])) == pytest.approx([1 + 8 * 3, UNKNOWN])


def test_wrong_held_out_labels_are_not_the_networks_errors() -> None:
    unseen = np.array([[0.1], [0.7], [0.2], [0.7]])
    assert generalisation_factors(np.full((5, 1), 0.8), unseen) == pytest.approx([1 + (0.3 / 0.2 - 1) * 1.5])


def test_where_nothing_is_known_the_agents_are_careful() -> None:
    none, some = np.empty((0, 2)), np.full((4, 2), 0.9)
    assert generalisation_factors(some, none) == generalisation_factors(none, some) == [UNKNOWN, UNKNOWN]


def test_structures_that_a_label_lacks_have_no_overlap() -> None:
    masks, drawn = np.zeros((2, 4, 4, 4)), np.zeros((2, 4, 4, 4))
    masks[0, :2] = 1
    drawn[:, :1] = 0.8
    assert dice_of_structures(masks, drawn) == pytest.approx([2 * 16 / (32 + 16), np.nan], nan_ok=True)


def test_what_is_usual_grows_with_caution() -> None:
    usual = Calibration(unevenness=1.5, missing_mm=4.0, leak_mm=3.0, generalisation_factor=4.0)
    for_new = usual.for_new_cases()
    assert (for_new.missing_mm, for_new.leak_mm) == (16.0, 12.0)
    assert for_new.unevenness == pytest.approx(1.5 * 2**0.5)  # the scatter, under its root, is twice as large
    assert usual.for_new_cases(share=0.5).leak_mm == 3.0 * 2.5
    assert usual.for_new_cases(share=0.0) == usual
    assert Calibration(missing_mm=4.0).for_new_cases() == Calibration(missing_mm=4.0)


def test_caution_raises_the_odds_that_an_action_needs() -> None:
    odds = [threshold_of(0.5, factor) / (1 - threshold_of(0.5, factor)) for factor in (1.0, 2.0)]
    assert odds[1] == pytest.approx(odds[0] ** 2)
    assert threshold_of(0.0, 4.0) == threshold_of(0.0) == 0.5  # who trusts no mask follows the policy
    assert threshold_of(0.5, 20.0) == threshold_of(0.5, LARGEST_FACTOR_OF_AGENTS) < 0.998  # a sure policy still acts
    assert threshold_of(1.0, 2.0) > 1


def test_training_measures_it_on_its_held_out_cases() -> None:
    cases = phantom_cases(5)
    elsewhere = np.roll(cases[4].masks.numpy(), (5, 10, 10), (1, 2, 3))
    wrong = in_memory("wrong", cases[4].image.numpy(), elsewhere, cases[4].spacing_dhw, (8, 16, 16))
    for held_out, at_least in ((cases[3:], 1.0), ([wrong], 1.2)):
        given = given_run("extended", cases=[*cases[:3], *held_out], held_out=len(held_out), train={"steps": 60})
        result, seen = run(given)
        found = result.mask_network["calibrations"][:, -1].tolist()
        assert min(found) >= at_least
        told = [e["text"] for e in seen if e["event"] == "message" and "errs more on held-out cases" in e["text"]]
        assert bool(told) == (max(found) > WORTH_TELLING)
        assert result.warnings[len(result.warnings) - len(told) :] == told  # the model card has it, too
    alone, _ = run(given_run("extended"))
    assert alone.mask_network["calibrations"][:, -1].tolist() == [UNKNOWN]
    assert "no case was held out" in alone.warnings[-1]


def test_the_user_is_told_of_marked_care_only() -> None:
    held_out = [np.ones((2, 2, 2, 2))] * 3
    assert what_to_tell(["liver", "spleen"], [1.5, 1.0], held_out) == []
    told = what_to_tell(["liver", "spleen"], [1.2, 3.26], held_out)
    assert len(told) == 1
    assert told[0].startswith("spleen: refinements stay close to the rough mask, since the network errs more")


def test_a_structure_in_no_held_out_label_is_not_said_to_be_drawn_worse_there() -> None:
    without_spleen = np.stack([np.ones((2, 2, 2)), np.zeros((2, 2, 2))])
    told = what_to_tell(["liver", "spleen"], [UNKNOWN, UNKNOWN], [without_spleen] * 2)
    assert told[0].startswith("liver: refinements stay close to the rough mask, since the network errs more")
    assert told[1].startswith("spleen: refinements stay close to the rough mask, since no held-out case has it")
