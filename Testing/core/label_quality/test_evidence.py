"""Signs against a label, by hand where they can be, and the rule that is learned from spoiled labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from SVLDRLCore.label_quality.comparison import Findings, compare_label, suspect
from SVLDRLCore.label_quality.drawn_slices import between_slices, ends, roughness
from SVLDRLCore.label_quality.evidence import NAMES, Compared, Evidence
from SVLDRLCore.label_quality.evidence_rule import BESIDE_PREDICTION, SIGNS, learn_rule, spoiled_versions
from SVLDRLCore.label_quality.thresholds import (
    FEWEST_OF_KIND,
    LEAST_DISAGREEMENT,
    LEAST_ODDS,
    LEAST_SHARE_OF_SECTION,
)
from SVLDRLCore.masks.borders import FAR_APART_MM, shift_border, signed_distance

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
    assert all(each.any() and (each != ORGAN).any() for _, each in made)
    again = spoiled_versions(ORGAN, SPACING, 12, np.random.default_rng(3))
    coarse = spoiled_versions(ORGAN, (6.0, 6.0, 6.0), 12, np.random.default_rng(3))
    for (kind, one), (_, same), (_, scaled) in zip(made, again, coarse):
        assert kind in SIGNS
        np.testing.assert_array_equal(one, same)
        np.testing.assert_array_equal(one, scaled)
    flat = ORGAN[9:10]
    for _, each in spoiled_versions(flat, (FAR_APART_MM, 2.0, 2.0), 6, np.random.default_rng(0)):
        assert each.any()
        assert (each != flat).any()


def test_each_kind_is_spoiled_in_its_turn() -> None:
    kinds = [kind for kind, _ in spoiled_versions(ORGAN, SPACING, 2 * len(SIGNS), np.random.default_rng(5))]
    assert all(1 <= kinds.count(kind) <= 3 for kind in SIGNS)  # a kind that left the label as it is has another turn


def drawn_signs(
    count: int,
    rng: np.random.Generator,
    worse: float = 0.0,
    sharpness: Sequence[float] = (),
    names: Sequence[str] = BESIDE_PREDICTION,
) -> list[Evidence]:
    """Signs that scatter by 1; `worse`: by how much those of `names` lie higher."""
    made = []
    for row in range(count):
        drawn = dict(zip(NAMES, rng.normal(0, 1, len(NAMES)).tolist()))
        sharp = sharpness[row] if len(sharpness) else 0.0
        drawn |= {name: drawn[name] + worse for name in names}
        drawn |= {name: drawn[name] - sharp for name in BESIDE_PREDICTION[:2]} | {"image_sharpness": sharp}
        made.append(Evidence(**drawn))
    return made


def probability(
    given: Sequence[Evidence], spoiled: Sequence[Evidence], belief: Sequence[float], kind: str = "leak"
) -> np.ndarray:
    rule = learn_rule(given, [(kind, each) for each in spoiled], belief)
    assert rule is not None
    return rule.probabilities(given)[kind]


def test_the_rule_finds_wrong_labels_among_given_ones() -> None:
    rng = np.random.default_rng(0)
    given = [*drawn_signs(40, rng), *drawn_signs(10, rng, 3.0)]
    found = probability(given, drawn_signs(100, rng, 3.0), np.ones(50))
    assert found[40:].min() > np.quantile(found[:40], 0.9)
    assert found[40:].mean() > 0.5 > found[:40].mean()


def test_a_kind_that_many_labels_have_is_found_by_its_own_signs_and_named() -> None:
    """A quarter of the labels stopped early: they look like given ones at first, and like right ones in all else."""
    rng, own = np.random.default_rng(4), SIGNS["stopped_early"]
    given = [*drawn_signs(60, rng), *drawn_signs(20, rng, 4.0, names=own)]
    spoiled = [("stopped_early", each) for each in drawn_signs(40, rng, 4.0, names=own)]
    spoiled += [("leak", each) for each in drawn_signs(40, rng, 4.0)]
    rule = learn_rule(given, spoiled, np.ones(80))
    assert rule is not None
    ways = rule.probabilities(given)
    wrong = ways["stopped_early"] + ways["leak"]
    assert (wrong <= 1).all()
    assert wrong[60:].min() > np.quantile(wrong[:60], 0.95)
    assert (ways["stopped_early"][60:] > ways["leak"][60:]).all()
    assert rule.shares["stopped_early"] > 2 * rule.shares["leak"]


def test_an_error_that_half_of_the_labels_have_is_found_where_they_are_a_group_of_their_own() -> None:
    """In all signs of the kind, and like the spoiled ones. What one sign tells alone may be nature."""
    rng, own = np.random.default_rng(7), SIGNS["stopped_early"]
    spoiled = [("stopped_early", each) for each in drawn_signs(40, rng, 6.0, names=own)]
    spoiled += [("leak", each) for each in drawn_signs(40, rng, 4.0)]

    def wrong(names: Sequence[str], worse: float = 6.0, others: Sequence[str] = ()) -> np.ndarray:
        given = [*drawn_signs(40, rng, 6.0, names=others), *drawn_signs(40, rng, worse, names=names)]
        rule = learn_rule(given, spoiled, np.ones(80))
        assert rule is not None
        return np.asarray(sum(rule.probabilities(given).values()))

    found = wrong(own)
    assert found[40:].min() > 0.5 > found[:40].max()
    for by_nature in (own[:1], own[1:]):
        assert (wrong(by_nature) > 0.5).mean() < 0.1
        assert (wrong(own, others=by_nature) > 0.5).mean() < 0.1
    assert (wrong(own, 2.0) > 0.5).mean() < 0.1  # no group: they only scatter more


def test_kinds_of_which_too_few_were_spoiled_are_left_out() -> None:
    rng = np.random.default_rng(6)
    few = [("leak", each) for each in drawn_signs(FEWEST_OF_KIND - 1, rng, 3.0)]
    assert learn_rule(drawn_signs(20, rng), few, np.ones(20)) is None
    rule = learn_rule(drawn_signs(20, rng), [*few, *(("mt", each) for each in drawn_signs(9, rng, 3.0))], np.ones(20))
    assert rule is not None
    assert list(rule.weights) == ["mt"]


def test_a_poorer_image_is_no_sign_of_a_wrong_label() -> None:
    rng = np.random.default_rng(1)
    sharpness = np.repeat([0.0, -2.0], 150)
    given = drawn_signs(300, rng, sharpness=sharpness.tolist())
    spoiled = drawn_signs(600, rng, 2.0, np.repeat(sharpness, 2).tolist())
    found = probability(given, spoiled, np.ones(300))
    assert 0.5 < found[150:].mean() / found[:150].mean() < 2.0

    def without(signs: Sequence[Evidence]) -> list[Evidence]:
        return [replace(each, image_sharpness=0.0) for each in signs]

    blind = probability(without(given), without(spoiled), np.ones(300))
    assert blind[150:].mean() > 4 * blind[:150].mean()


def test_what_the_first_rule_doubts_is_not_what_right_labels_look_like() -> None:
    """Half of the labels are wrong by a shift that the spoiled ones hardly have: belief tells which half is usual."""
    rng = np.random.default_rng(2)

    def shifted(count: int, bias: float, scatter: float) -> list[Evidence]:
        return [replace(each, bias_mm=float(rng.normal(bias, scatter))) for each in drawn_signs(count, rng)]

    given, spoiled = [*shifted(20, 0.0, 0.3), *shifted(20, 5.0, 0.3)], shifted(80, 0.0, 3.0)
    found = probability(given, spoiled, np.repeat([1.0, 0.0], 20), "mt")
    assert found[20:].min() > found[:20].max()


def test_a_label_that_was_cut_off_ends_where_the_structure_goes_on() -> None:
    p, smooth = np.where(ORGAN, 0.95, 0.02).astype(np.float32), image_of(ORGAN)[0]
    cut = ORGAN.copy()
    cut[11:] = False
    whole, stopped = ends(ORGAN, p, smooth, SPACING), ends(cut, p, smooth, SPACING)
    share = 0.95 * ORGAN[11][ORGAN[10]].mean() + 0.02 * (1 - ORGAN[11][ORGAN[10]].mean())
    by_hand = share * ORGAN[10].sum() / max(cut.sum(axis=(1, 2)))
    assert stopped[0] == pytest.approx(np.log(by_hand + LEAST_SHARE_OF_SECTION), abs=1e-3)
    assert stopped[0] > whole[0] + 1
    assert stopped[1] > whole[1] + 0.5
    filled = np.ones(SHAPE, bool)
    assert ends(filled, p, smooth, SPACING) == (np.log(LEAST_SHARE_OF_SECTION),) * 2  # it ends with the image


def test_slices_that_were_interpolated_or_copied_show() -> None:
    spacing = (4.0, 2.0, 2.0)
    organ = np.linalg.norm((np.indices((24, 24, 24)) - 11.5) * np.reshape(spacing, (3, 1, 1, 1)), axis=0) < 20
    distance = signed_distance(organ, spacing)
    straight = distance.copy()
    for first in range(0, 20, 4):  # drawn every fourth slice
        straight[first : first + 5] = np.linspace(distance[first], distance[first + 4], 5)
    repeated = np.repeat(organ[::2], 2, axis=0)
    smooth = between_slices(organ, distance, spacing)
    assert between_slices(straight < 0, straight, spacing)[0] > smooth[0] + 0.3
    assert between_slices(repeated, signed_distance(repeated, spacing), spacing)[1] > smooth[1] + 1
    assert between_slices(organ[11:12], distance[11:12], (FAR_APART_MM, 2.0, 2.0)) == (0.0, 0.0)


def test_a_rough_border_has_more_surface() -> None:
    rough = ORGAN ^ (np.random.default_rng(0).random(SHAPE) < 0.3) & (np.abs(signed_distance(ORGAN, SPACING)) < 3)
    assert roughness(rough, SPACING) > roughness(ORGAN, SPACING) + 0.2
    larger = np.kron(ORGAN, np.ones((2, 2, 2), bool))
    assert roughness(larger, SPACING) == pytest.approx(roughness(ORGAN, SPACING), abs=1e-6)


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
