"""Signs against a label, by hand where they can be, and the rule that is learned from spoiled labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from SVLDRLCore.label_quality.comparison import Findings, compare_label, suspect
from SVLDRLCore.label_quality.evidence import Compared, Evidence
from SVLDRLCore.label_quality.evidence_rule import learn_rule, spoiled_versions
from SVLDRLCore.label_quality.thresholds import LEAST_DISAGREEMENT, LEAST_ODDS
from SVLDRLCore.masks.borders import FAR_APART_MM, shift_border

SPACING = (2.0, 2.0, 2.0)
SHAPE = (18, 24, 24)


def ball(centre: Sequence[float], radius_mm: float) -> np.ndarray:
    at = (np.indices(SHAPE) - np.reshape(centre, (3, 1, 1, 1))) * 2.0
    return np.asarray(np.linalg.norm(at, axis=0) < radius_mm)


ORGAN = ball((9, 12, 12), 14.0)
BITE = ORGAN & ball((9, 12, 18), 8.0)


def image_of(organ: np.ndarray, seed: int = 0) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(0, 0.03, SHAPE)
    return np.clip(0.3 + 0.4 * organ + noise, 0, 1).astype(np.float32)[None]


def signs(label: np.ndarray, drawn: np.ndarray, image: np.ndarray | None = None) -> Evidence:
    p = np.where(drawn, 0.95, 0.02).astype(np.float32)
    return Compared(p, image_of(ORGAN) if image is None else image, SPACING, label | drawn).judge(label)


def test_overlap_and_surprise_by_hand() -> None:
    p = np.zeros((3, 3, 3), np.float32)
    p[1, 1] = (0.9, 0.6, 0.1)
    label = np.zeros((3, 3, 3), bool)
    label[1, 1, :2] = True
    found = Compared(p, np.zeros((1, 3, 3, 3), np.float32), (1.0, 1.0, 1.0), label).judge(label)
    soft, expected = 2 * 1.5 / (2 + 1.6), (0.81 + 0.36 + 0.01) / 1.6
    assert found.disagreement == pytest.approx(np.log(1 - soft + LEAST_DISAGREEMENT), abs=1e-4)
    beside = (1 - soft + LEAST_DISAGREEMENT) / (1 - expected + LEAST_DISAGREEMENT)
    assert found.beyond_doubt == pytest.approx(np.log(beside), abs=2e-3)

    def entropy(q: float) -> float:
        return -q * np.log(q) - (1 - q) * np.log1p(-q)

    cross = -np.log(0.9) - np.log(0.6) - np.log(0.9)
    sure = 24 * (-np.log1p(-LEAST_ODDS) - entropy(LEAST_ODDS))  # the voxels where the network sees nothing
    wanted = (cross - entropy(0.9) - entropy(0.6) - entropy(0.1) + sure) / (2 + 1.6)
    assert found.surprise == pytest.approx(wanted, abs=1e-4)


def test_the_image_takes_the_side_of_the_border_that_lies_on_its_edge() -> None:
    against_label = signs(ORGAN & ~BITE, ORGAN)
    against_prediction = signs(ORGAN, ORGAN & ~BITE)
    assert against_label.image_side > 0.05
    assert against_label.image_side_apart > 0.5
    assert against_prediction.image_side < -0.05
    assert against_prediction.image_side_apart < -0.5
    alike = signs(ORGAN, ORGAN)
    assert alike.image_side == pytest.approx(0.0, abs=1e-6)
    assert alike.disagreement < against_label.disagreement


@pytest.mark.parametrize("shift_mm", [-4.0, 4.0])
def test_a_moved_border_shows_in_bias_and_edge(shift_mm: float) -> None:
    found = signs(shift_border(ORGAN, SPACING, shift_mm), ORGAN)
    assert found.bias_mm == pytest.approx(-shift_mm, abs=1.2)
    assert found.edge_mm == pytest.approx(-shift_mm, abs=1.2)


def test_what_nobody_has_labelled_counts_nowhere() -> None:
    ignored = np.zeros(SHAPE, bool)
    ignored[:, :, 16:] = True
    p, image = np.where(ORGAN, 0.95, 0.02).astype(np.float32), image_of(ORGAN)
    other_p, other_image = p.copy(), image.copy()
    other_p[ignored], other_image[:, ignored] = 0.5, 0.5
    found = Compared(p, image, SPACING, ORGAN, ignored).judge(ORGAN)
    beside = Compared(other_p, image, SPACING, ORGAN, ignored).judge(ORGAN & ~ignored)
    assert found == beside
    wrong = Compared(p, image, SPACING, ORGAN, ignored).judge(ORGAN & ~BITE)
    assert wrong.disagreement == pytest.approx(found.disagreement, abs=0.7)  # most of the bite is not known


def test_a_prediction_that_shows_nothing_and_a_full_label_are_judged() -> None:
    empty = Compared(np.zeros(SHAPE, np.float32), image_of(ORGAN), SPACING, ORGAN).judge(ORGAN)
    full = Compared(np.ones(SHAPE, np.float32), image_of(ORGAN), SPACING, ORGAN).judge(np.ones(SHAPE, bool))
    for found in (empty, full):
        assert np.isfinite([getattr(found, name) for name in found.__dataclass_fields__]).all()
    assert empty.image_side == empty.bias_mm == 0.0
    assert empty.disagreement > full.disagreement


def test_spoiled_versions_are_wrong_seeded_and_as_coarse_as_the_grid() -> None:
    made = spoiled_versions(ORGAN, SPACING, 12, np.random.default_rng(3))
    assert len(made) == 12
    assert all(each.any() and (each != ORGAN).any() for each in made)
    again = spoiled_versions(ORGAN, SPACING, 12, np.random.default_rng(3))
    coarse = spoiled_versions(ORGAN, (6.0, 6.0, 6.0), 12, np.random.default_rng(3))
    for one, same, scaled in zip(made, again, coarse):
        np.testing.assert_array_equal(one, same)
        np.testing.assert_array_equal(one, scaled)
    flat = ORGAN[9:10]
    for each in spoiled_versions(flat, (FAR_APART_MM, 2.0, 2.0), 6, np.random.default_rng(0)):
        assert each.any()
        assert (each != flat).any()


def drawn_signs(count: int, worse: float, rng: np.random.Generator, sharpness: Sequence[float] = ()) -> list[Evidence]:
    """Signs that scatter by 1; `worse`: by how much those of disagreement lie higher."""
    made = []
    for row in range(count):
        a, b, c, d, e, f, g, h, i = rng.normal(0, 1, 9).tolist()
        sharp = sharpness[row] if len(sharpness) else 0.0
        made.append(Evidence(a + worse - sharp, b + worse, c + worse - sharp, d + worse, e, f, g, h, i, sharp))
    return made


def test_the_rule_finds_wrong_labels_among_given_ones() -> None:
    rng = np.random.default_rng(0)
    given = [*drawn_signs(40, 0.0, rng), *drawn_signs(10, 3.0, rng)]
    rule = learn_rule(given, drawn_signs(100, 3.0, rng), np.ones(50))
    probability = rule.probability(given)
    assert probability[40:].min() > np.quantile(probability[:40], 0.9)
    assert probability[40:].mean() > 0.5 > probability[:40].mean()
    # What says nothing gets no weight.
    assert abs(rule.weights[0][2]) < 0.3 * abs(rule.weights[0][0])


def test_a_poorer_image_is_no_sign_of_a_wrong_label() -> None:
    rng = np.random.default_rng(1)
    sharpness = np.repeat([0.0, -2.0], 40)
    given = drawn_signs(80, 0.0, rng, sharpness.tolist())
    spoiled = drawn_signs(160, 2.0, rng, np.repeat(sharpness, 2).tolist())
    probability = learn_rule(given, spoiled, np.ones(80)).probability(given)
    assert 0.5 < probability[40:].mean() / probability[:40].mean() < 2.0

    def without(signs: Sequence[Evidence]) -> list[Evidence]:
        return [replace(each, image_sharpness=0.0) for each in signs]

    blind = learn_rule(without(given), without(spoiled), np.ones(80)).probability(without(given))
    assert blind[40:].mean() > 4 * blind[:40].mean()


def test_what_the_first_rule_doubts_is_not_what_right_labels_look_like() -> None:
    """Half of the labels are wrong by a shift that the spoiled ones hardly have: belief tells which half is usual."""
    rng = np.random.default_rng(2)

    def shifted(count: int, bias: float, scatter: float) -> list[Evidence]:
        return [replace(each, bias_mm=float(rng.normal(bias, scatter))) for each in drawn_signs(count, 0.0, rng)]

    given, spoiled = [*shifted(20, 0.0, 0.3), *shifted(20, 5.0, 0.3)], shifted(80, 0.0, 3.0)
    belief = np.repeat([1.0, 0.0], 20)
    found = learn_rule(given, spoiled, belief).probability(given)
    assert found[20:].min() > found[:20].max()


def test_an_audit_ranks_by_the_signs() -> None:
    """Two labels of twelve lack a part that the image shows, and that a blurred prediction half draws."""
    findings: list[Findings] = []
    for case in range(12):
        rng = np.random.default_rng(case)
        organ = ball((9 + rng.uniform(-1, 1), 12, 12), rng.uniform(12, 15))
        label = organ & ~ball((9, 12, 18), 8.0) if case < 2 else organ
        p = np.where(shift_border(organ, SPACING, float(rng.uniform(-1, 1))), 0.8, 0.1).astype(np.float32)
        findings.append(compare_label(label, p, SPACING, image=image_of(organ, case), seed=(case,)))
    suspicions, _ = suspect(findings, [False] * 12, [None] * 12, 2.0)
    scores = [each.score for each in suspicions]
    assert min(scores[:2]) > max(scores[2:])
