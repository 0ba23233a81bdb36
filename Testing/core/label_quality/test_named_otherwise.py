"""Structures that were swapped, merged, or drawn where there is none are called so."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from SVLDRLCore.label_quality.audit_words import SeenLabel, audit_words
from SVLDRLCore.label_quality.comparison import Findings, compare_label, suspect
from SVLDRLCore.label_quality.named_otherwise import EXTRA_STRUCTURE, WRONG_STRUCTURE, nowhere_found

SHAPE, SPACING = (12, 20, 28), (2.0, 2.0, 2.0)


def ball(centre: Sequence[float], radius: float) -> np.ndarray:
    return np.asarray(np.linalg.norm(np.indices(SHAPE) - np.reshape(centre, (3, 1, 1, 1)), axis=0) < radius)


HEAD, TAIL = ball((6, 10, 9), 5.0), ball((6, 10, 20), 4.0)


def found(label: np.ndarray, own: np.ndarray = HEAD, other: np.ndarray = TAIL) -> Findings:
    return compare_label(label, own.astype(float), SPACING, others={1: other.astype(float)})


def kinds(findings: Sequence[Findings]) -> list[str]:
    count = len(findings)
    suspicions, _ = suspect(findings, [False] * count, [None] * count, 2.0)
    return [each.kind for each in suspicions]


@pytest.mark.parametrize("label", [TAIL, HEAD | TAIL])
def test_swapped_and_merged_structures_are_named(label: np.ndarray) -> None:
    wrong, right = found(label), found(HEAD)
    assert wrong.holds == (1,)
    assert right.holds == ()
    centroid = wrong.regions[WRONG_STRUCTURE].centroid_dhw
    assert centroid == pytest.approx((6, 10, 20), abs=0.1)
    told = kinds([right] * 9 + [wrong])
    assert told[-1] == WRONG_STRUCTURE
    assert WRONG_STRUCTURE not in told[:-1]
    words = audit_words(SeenLabel(wrong, SPACING, 2.0, names=("head", "tail")), WRONG_STRUCTURE)
    assert words[0] == "it holds most of what the prediction takes for tail"


def test_a_border_that_runs_into_its_neighbour_is_no_other_structure() -> None:
    beside = ball((6, 10, 15), 4.0)
    assert found(HEAD | ball((6, 10, 12), 4.0), other=beside).holds == ()
    assert compare_label(HEAD | TAIL, HEAD.astype(float), SPACING).holds == ()  # of nested ones nothing is asked


def test_what_the_prediction_nowhere_shows_is_extra_where_it_mostly_shows_it() -> None:
    nothing, unsure = np.zeros(SHAPE, bool), [found(HEAD)] * 4
    assert kinds([*unsure, found(HEAD, nothing)])[-1] == EXTRA_STRUCTURE
    assert kinds([found(HEAD, nothing)] * 3 + unsure[:2])[0] != EXTRA_STRUCTURE  # the network does not know it
    words = audit_words(SeenLabel(found(HEAD, nothing), SPACING, 2.0), EXTRA_STRUCTURE)
    assert words[0] == "the prediction shows nothing of the structure"
    assert nowhere_found([], []).tolist() == []
