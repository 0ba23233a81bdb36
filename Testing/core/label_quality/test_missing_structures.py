"""Labels that lack a structure: suspects where most have it, until the network draws it there, or does not."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from shifted_balls import SPACING, bright_ball, reviewing

from SVLDRLCore.config.settings import ReliabilityConfig, with_values
from SVLDRLCore.data.cases import TrainingCase, in_memory
from SVLDRLCore.events import EventLog
from SVLDRLCore.job_control import JobControl
from SVLDRLCore.label_quality.features import (
    LabelFeatures,
    label_edges,
    label_features,
    label_sharpness,
)
from SVLDRLCore.label_quality.missing_structures import missing_structures
from SVLDRLCore.label_quality.weights import (
    LabelQuality,
    judge,
    judge_unseen,
    reliability_rows,
)
from SVLDRLCore.learning.method import RunInput
from SVLDRLCore.learning.method_words import MethodWords
from SVLDRLCore.masks.borders import shift_border
from SVLDRLCore.masks.structures import structures_of
from SVLDRLCore.models.card import write_model_card
from SVLDRLCore.training.run import RunResult, run_training

CONFIG = ReliabilityConfig(enabled=True)
COUNT = 16


ENOUGH = (4000.0, 1000.0)
"""mm3 of a ball or shell, and of a core, that show it."""


def structures(seed: int, count: int = 1) -> np.ndarray:
    """A ball as one structure, or its shell and its core."""
    _, ball = bright_ball(seed)
    core = shift_border(ball, SPACING, -6.0)
    return np.stack([ball] if count == 1 else [ball & ~core, core])


def seen(
    empty: set[int],
    drawn: set[int] | None = None,
    *,
    lacking: int | None = None,
    shifts: dict[int, float] | None = None,
) -> list[LabelFeatures]:
    """LabelFeatures of COUNT cases, `empty` ones without a label (or without the structure `lacking` of two).

    `drawn`: cases in which the network draws everything, rightly; None: there is no network yet.
    """
    found = []
    for seed in range(COUNT):
        image, _ = bright_ball(seed)
        masks = structures(seed, 1 if lacking is None else 2)
        probabilities = None if drawn is None else np.where(masks & (seed in drawn), 0.9, 0.05)
        label = np.stack([shift_border(m, SPACING, (shifts or {}).get(seed, 0.0)) for m in masks])
        if seed in empty:
            label[slice(None) if lacking is None else lacking] = False
        edges, sharpness = label_edges(label, image, SPACING), label_sharpness(label, image, SPACING)
        found.append(label_features(probabilities, label, SPACING, edges, sharpness, enough_mm3=ENOUGH[: len(masks)]))
    return found


def told(quality: LabelQuality, features: list[LabelFeatures], names: tuple[str, ...] = ("ball",)) -> list[str]:
    rows = reliability_rows([str(i) for i in range(COUNT)], features, quality, [False] * COUNT, names)
    return [row["why"] for row in rows]


def weights(features: list[LabelFeatures], *trusted: int, network: bool = False) -> np.ndarray:
    trusted = [i in trusted for i in range(COUNT)]
    quality = judge(features, trusted, 2.0, CONFIG) if network else judge_unseen(features, trusted, 2.0, CONFIG)
    return np.array(quality.weights)


EVERYWHERE = set(range(COUNT))
FEW, MANY = {1, 6, 11}, set(range(5, COUNT))
OTHERS = [i for i in range(COUNT) if i not in FEW]


def test_what_most_have_and_one_lacks_is_a_suspect_at_once() -> None:
    features = seen(FEW)
    found = weights(features)
    assert found[list(FEW)].max() < 0.02
    assert found[OTHERS].min() == 1.0
    quality = judge_unseen(features, [False] * COUNT, 2.0, CONFIG)
    assert [i for i, why in enumerate(told(quality, features)) if why] == sorted(FEW)
    assert told(quality, features)[1] == "lacks ball, which 13 of 16 cases have"


def test_by_hand() -> None:
    """13 of 16: of 17 fair draws 14 or more are heads with a chance of (680 + 136 + 17 + 1) / 2^17."""
    missing = missing_structures(seen(FEW), [False] * COUNT)
    assert missing.weight[1] == pytest.approx(834 / 2**17)
    assert missing.weight[0] == 1.0


def test_where_lacking_it_is_usual_nothing_is_doubted_before_there_is_a_network() -> None:
    assert weights(seen(MANY)).min() > 0.9


@pytest.mark.parametrize("empty", [FEW, MANY])
def test_the_network_decides_what_it_has_learned(empty: set[int]) -> None:
    lacking, having = sorted(empty), sorted(EVERYWHERE - empty)
    drawn, silent = seen(empty, EVERYWHERE), seen(empty, set(having))
    assert weights(drawn, network=True)[lacking].max() < 0.01
    assert weights(silent, network=True)[lacking].min() > 0.99
    quality = judge(drawn, [False] * COUNT, 2.0, CONFIG)
    assert told(quality, drawn)[lacking[0]].endswith("the network draws it")
    quality = judge(silent, [False] * COUNT, 2.0, CONFIG)
    assert told(quality, silent)[lacking[0]].endswith("the network does not draw it either")


def test_a_network_that_draws_it_nowhere_says_nothing() -> None:
    few, many = seen(FEW, set()), seen(MANY, set())
    assert weights(few, network=True)[list(FEW)].max() < 0.02
    assert weights(many, network=True)[list(MANY)].min() > 0.9
    quality = judge(few, [False] * COUNT, 2.0, CONFIG)
    assert told(quality, few)[1].endswith("the network has not learned it yet")


def test_trusted_cases_count_for_sure() -> None:
    # One that lacks it proves that it happens: then the network decides.
    assert weights(seen(FEW), 1).min() == 1.0
    assert weights(seen(FEW, EVERYWHERE), 1, network=True)[[1, 6, 11]].tolist() == pytest.approx(
        [1.0, np.exp(-8), np.exp(-8)], rel=0.01
    )
    # Four that have it: one of 2^5 says that a share of less than half would do so.
    assert weights(seen(MANY), 0, 1, 2, 3)[list(MANY)].tolist() == pytest.approx([1 / 32] * len(MANY))
    assert weights(seen(MANY), 0, 1, 2, 3, 5).min() == 1.0


@pytest.mark.parametrize("drawn", [None, EVERYWHERE])
def test_the_others_are_judged_as_if_the_empty_ones_were_not_there(drawn: set[int] | None) -> None:
    features = seen(FEW, drawn, shifts={0: 5.0, 3: 4.0, 8: 5.0})
    alone = [features[i] for i in OTHERS]
    quality = (
        judge_unseen(alone, [False] * len(alone), 2.0, CONFIG)
        if drawn is None
        else judge(alone, [False] * len(alone), 2.0, CONFIG)
    )
    assert weights(features, network=drawn is not None)[OTHERS].tolist() == list(quality.weights)
    assert min(quality.weights) < 0.5


def test_a_label_that_lacks_one_of_two_is_a_suspect_and_its_other_structure_still_counts() -> None:
    features = seen(FEW, lacking=1)
    assert weights(features)[list(FEW)].max() < 0.02
    quality = judge(seen(FEW, EVERYWHERE, lacking=1), [False] * COUNT, 2.0, CONFIG)
    found = np.array(quality.weights)
    assert found[[1, 6]].tolist() == pytest.approx([np.exp(-8)] * 2, rel=0.01)
    assert found[11] < 0.5  # its core is the smallest: a third of the usual one
    assert found[OTHERS].min() > 0.9
    assert (
        told(quality, features, ("shell", "core"))[6] == "lacks core, which 13 of 16 cases have; the network draws it"
    )
    # Believed to lack the core rightly, a case is judged by its shell, beside the other shells.
    silent = [replace(c, surest=(0.9, 0.05)) if i in FEW else c for i, c in enumerate(seen(FEW, EVERYWHERE, lacking=1))]
    assert np.array(judge(silent, [False] * COUNT, 2.0, CONFIG).weights).min() > 0.9
    off = [replace(c, by_structure=(replace(c.by_structure[0], bias_mm=20.0), None)) if i == 1 else c
           for i, c in enumerate(silent)]  # fmt: skip
    found = np.array(judge(off, [False] * COUNT, 2.0, CONFIG).weights)
    assert found[1] < 0.1
    assert np.delete(found, 1).min() > 0.9


def test_what_is_drawn_over_another_structure_is_only_another_name_unless_structures_are_nested() -> None:
    whole = structures(0)[0]
    label, probabilities = np.stack([whole, whole & False]), np.stack([0.1 * whole, 0.9 * whole])
    one, other = (label_features(probabilities, label, SPACING, nested=n, enough_mm3=ENOUGH) for n in (False, True))
    assert (one.surest[1], other.surest[1]) == (0.0, pytest.approx(0.9))


def test_how_sure_is_the_mean_over_the_volume_asked_for() -> None:
    label, probabilities = np.zeros((1, 4, 4, 4), bool), np.zeros((1, 4, 4, 4))
    label[0, 0, 0], probabilities[0, 0, 0], probabilities[0, 3, 3] = True, 0.8, (0.6, 0.4, 0.2, 0.0)
    found = label_features(probabilities, label, SPACING, enough_mm3=[16.0])
    assert (found.surest, found.surest_beside) == (pytest.approx((0.8,)), pytest.approx((0.5,)))
    found = label_features(probabilities, label, SPACING, enough_mm3=[8.0 * 128])
    assert found.surest == pytest.approx((4.4 / 128,))  # twice as much as there is


def test_a_network_finds_a_little_of_what_it_has_always_seen_in_every_image() -> None:
    """0.83 where the structure is not, 0.93 where it is, 0.47 beside it: log odds of 1.59, 2.59 and -0.12.

    Half way is 1.23, even odds at 1.91; 0.33 below that in units of 1.35, times 16, are log odds of -3.85.
    """
    features = [
        replace(c, surest=(0.83 if i in FEW else 0.93,), surest_beside=(0.47,)) for i, c in enumerate(seen(FEW))
    ]
    assert weights(features, network=True)[list(FEW)] == pytest.approx([0.979] * 3, abs=0.001)


@pytest.mark.parametrize("network", [False, True])
@pytest.mark.parametrize("trusted", [(), (0, 3), (1, 2, 5, 9)])
def test_where_none_lacks_anything_nothing_has_changed(network: bool, trusted: tuple[int, ...]) -> None:
    """To the bit: the same quality as from features that do not tell structures apart."""
    features = seen(set(), EVERYWHERE if network else None, lacking=0, shifts={0: 5.0, 3: 4.0, 8: 5.0})
    before = [
        LabelFeatures(c.bias_mm, c.normalised_cross_entropy, c.fragments, c.edges_mm, c.sharpness) for c in features
    ]
    trusted = [i in trusted for i in range(COUNT)]
    judged = judge if network else judge_unseen
    assert judged(features, trusted, 2.0, CONFIG) == judged(before, trusted, 2.0, CONFIG)


# In a training.

CASES = 28
FORGOTTEN = {5, 13, 21, 26}


def balls(
    trusted: tuple[int, ...] = (), empty: set[int] = FORGOTTEN, partly: frozenset[int] = frozenset()
) -> list[TrainingCase]:
    """`partly`: a corner of these labels, far from the ball, is nobody's."""
    found = []
    corner = np.zeros(bright_ball(0)[1].shape, bool)
    corner[:3, :3, :3] = True
    for index in range(CASES):
        image, mask = bright_ball(index)
        label = shift_border(mask, SPACING, -4.0 * (index % 4 == 3))[None] & (index not in empty)
        ignored = corner if index in partly else None
        case = in_memory(f"case_{index}", image, label.astype(np.uint8), SPACING, (16, 16, 16), ignored=ignored)
        found.append(replace(case, trusted=index in trusted))
    return found


def trained(
    cases: list[TrainingCase], steps: int, warm_up: float = 1.0, **reliability: Any
) -> tuple[RunResult, list[dict[str, Any]]]:
    events: list[dict[str, Any]] = []
    config = reviewing(steps, **{"second_review": 0.8, **reliability})
    config = with_values(config, stages={"warm_up": warm_up, "full_rl": 1.0 - warm_up})
    given = RunInput(config, "supervised", structures_of({1: "ball"}), cases, [], torch.device("cpu"))
    return run_training(given, None, EventLog(None, [events.append]), JobControl()), events


@pytest.mark.parametrize("trusted", [(), (0, 4, 8, 12)])
def test_forgotten_labels_are_left_out_of_a_training_and_named(trusted: tuple[int, ...]) -> None:
    """Before it, at its looks, by its agents (four trusted), and on its card."""
    result, events = trained(balls(trusted), 8)
    rows = {row["case"]: row for row in result.reliability}
    for index in FORGOTTEN:
        row = rows[f"case_{index}"]
        assert max(row["weight"], row["absence"]) < 0.05
        assert row["why"].startswith("lacks ball, which 24 of 28 cases have; the network")
    assert all(row["absence"] == 1.0 and not row["why"] for i, row in enumerate(rows.values()) if i not in FORGOTTEN)
    assert sum(row["weight"] for row in rows.values()) > 10
    texts = [event["text"] for event in events if event["event"] == "message"]
    assert all("4 labels lack a structure, 4 are doubted for it" in text for text in texts if "Label review" in text)
    (warning,) = [text for text in result.warnings if "case_13" in text]
    assert warning.startswith(
        "Hardly learned from: case_5, case_13, case_21, case_26. The label lacks ball, which 24 of 28"
    )
    assert warning in [event["text"] for event in events if event["event"] == "warning"]
    assert warning in write_model_card(
        {}, {1: {"name": "ball"}}, MethodWords("a method", "None."), {}, {}, result.warnings
    )


def test_what_is_not_in_the_image_is_told_from_what_was_forgotten() -> None:
    """Images without a ball, and balls without a label: all suspects at first, and after a look only the latter."""
    absent, forgotten, cases = {2, 9, 14}, {4, 11}, balls(empty=set())[:18]
    for index in absent | forgotten:
        image = cases[index].image
        if index in absent:
            image = torch.from_numpy(0.3 + 0.05 * np.random.default_rng(index).standard_normal(image.shape)).float()
        cases[index] = replace(cases[index], image=image, masks=torch.zeros_like(cases[index].masks))
    result, _ = trained(cases, 40, warm_up=0.35, second_review=0.9)
    found = np.array([row["absence"] for row in result.reliability])
    assert found[sorted(forgotten)].max() < 0.3
    assert found[sorted(absent)].min() > 0.5
    told = [row["why"] for row in result.reliability]
    assert all(told[i].endswith("the network draws it") for i in forgotten)
    assert all(told[i].endswith("the network does not draw it either") for i in absent)


def test_empty_labels_are_suspects_even_where_no_cue_of_the_image_is_asked() -> None:
    _, events = trained(balls(), 1, edge=False, sharpness=False)
    assert any("no network yet; 4 labels lack" in event.get("text", "") for event in events)
    _, events = trained(balls(empty=set()), 1, edge=False, sharpness=False)
    assert not any("no network yet" in event.get("text", "") for event in events)


def test_no_empty_label_is_moved_onto_an_edge() -> None:
    """Twelve believed, seven shrunk: these are moved; the empty ones stay empty and have no turns."""
    cases = [c for i, c in enumerate(balls()) if i % 4 in (0, 3) or i in FORGOTTEN]
    _, events = trained(cases, 2)
    (text,) = [event["text"] for event in events if "borders are moved" in event.get("text", "")]
    assert text.startswith("7 borders are moved")


@pytest.mark.parametrize("trusted", [(), (0, 4, 8, 12), (0, 4, 8, 13)])
def test_a_label_that_is_not_known_everywhere_lacks_nothing(trusted: tuple[int, ...]) -> None:
    """What it does not show may lie where nobody has labelled: it is neither doubted nor counted, nor a proof."""
    result, _ = trained(balls(trusted, partly=frozenset({13, 26})), 8)
    rows = {row["case"]: row for row in result.reliability}
    for index in (13, 26):
        assert (rows[f"case_{index}"]["absence"], rows[f"case_{index}"]["why"]) == (1.0, "")
        assert rows[f"case_{index}"]["weight"] == 1.0
    for index in (5, 21):
        assert rows[f"case_{index}"]["absence"] < 0.05
        assert rows[f"case_{index}"]["why"].startswith("lacks ball, which 24 of 26 cases have; the network")


def test_labels_are_judged_as_if_empty_ones_that_are_not_known_everywhere_were_not_there() -> None:
    some, _ = trained(balls(empty=set(), partly=frozenset()), 1)
    given = balls(partly=frozenset(FORGOTTEN))
    features = [label_features(None, c.masks.numpy(), c.spacing_dhw, ignored=c.ignored) for c in given]
    assert missing_structures(features, [False] * CASES) is None
    result, events = trained(given, 1)
    assert not any("lack a structure" in event.get("text", "") for event in events)
    for index, (row, whole) in enumerate(zip(result.reliability, some.reliability)):
        assert row["weight"] == 1.0 if index in FORGOTTEN else (row["weight"] > 0.5) == (whole["weight"] > 0.5)
