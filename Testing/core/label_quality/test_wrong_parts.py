"""Labels of which one part is wrong, or a structure forgotten: the rest of them is learned from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from scipy import ndimage
from shifted_balls import SPACING, bright_ball

from SVLDRLCore.config.settings import load_config
from SVLDRLCore.data.cases import TrainingCase, in_memory
from SVLDRLCore.data.sampler import PatchSampler
from SVLDRLCore.events import EventLog
from SVLDRLCore.label_quality import review as label_review
from SVLDRLCore.label_quality.missing_structures import told_of_missing
from SVLDRLCore.label_quality.review import LabelReview
from SVLDRLCore.label_quality.wrong_parts import parts_of_label, wrong_parts
from SVLDRLCore.learning.segmentation_loss import segmentation_loss
from SVLDRLCore.masks.borders import shift_border

COUNT = 12
STOPPED, LEAKING = {2: slice(0, 10), 9: slice(13, None)}, {5}
WRONG = {*STOPPED, *LEAKING}
CONFIG = load_config("general", "extended", {"data": {"patch_size": [16, 16, 16], "flip_axes": []}})


def label_of(seed: int) -> np.ndarray:
    """A ball with a border that wanders a little; of some a third is not drawn, one leaks."""
    _, ball = bright_ball(seed)
    rng = np.random.default_rng(seed)
    wander = ndimage.gaussian_filter(rng.standard_normal(ball.shape), 2) * 10
    label = shift_border(ball, SPACING, 1.0) if seed % 2 else ball.copy()
    label ^= ndimage.binary_dilation(ball) & ~ball & (wander > 1.2)
    if seed in STOPPED:
        label[STOPPED[seed]] = False
    if seed in LEAKING:
        label[6:16, 10:18, 12:] = True
    return label


def cases_of(wrong: bool = True) -> list[TrainingCase]:
    labels = [label_of(seed) if wrong or seed not in WRONG else label_of(seed + 100) for seed in range(COUNT)]
    images = [bright_ball(seed if wrong or seed not in WRONG else seed + 100)[0] for seed in range(COUNT)]
    return [
        in_memory(f"case_{i}", image, label[None].astype(np.uint8), SPACING, (16, 16, 16))
        for i, (image, label) in enumerate(zip(images, labels))
    ]


def reviewed(
    monkeypatch: pytest.MonkeyPatch, cases: list[TrainingCase], seeds: list[int], **how: Any
) -> tuple[LabelReview, PatchSampler]:
    """A review by a network that draws every ball, and the sampler that heeds it."""
    config = replace(CONFIG, reliability=replace(CONFIG.reliability, **{"parts": True, **how.pop("reliability", {})}))
    sampler = PatchSampler(cases, config.data, 2, 0)
    by_name = {case.name: seed for case, seed in zip(cases, seeds)}

    def drawn(network: Any, of: list[TrainingCase], *rest: Any, **named: Any) -> Iterator[Any]:
        for case in of:
            ball = ndimage.gaussian_filter(bright_ball(by_name[case.name])[1].astype(np.float32), 0.7)
            yield case, np.repeat(ball[None], len(case.masks), 0)

    monkeypatch.setattr(label_review, "predict_cases", drawn)
    monkeypatch.setattr(label_review, "spoiled_of_each", lambda labels: 4)  # of ten, to be faster
    review = LabelReview(
        cases, sampler.order, config, False, torch.device("cpu"), EventLog(None), None, lambda: None, sampler.relabel,
        ("ball", "core"), lambda i, out: sampler.leave_out(i, out.region, out.structures), **how,
    )  # fmt: skip
    review.review_early(torch.nn.Identity())
    return review, sampler


def test_the_wrong_part_is_left_out_and_the_rest_learned(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also after a checkpoint, to the bit; and once no part is wrong, all is learned from again."""
    cases = cases_of()
    review, sampler = reviewed(monkeypatch, cases, list(range(COUNT)))
    assert set(review.left_out) == WRONG
    for index, out in review.left_out.items():
        error = bright_ball(index)[1] ^ label_of(index)
        thick = ndimage.binary_opening(error, iterations=2)
        assert out.region is not None
        assert (out.region & thick).sum() > 0.9 * thick.sum()
        assert review.turns[index] > 0.9
        assert ("missing" if index in STOPPED else "too much") in review.rows[index]["left_out"]
    others = [i for i in range(COUNT) if i not in WRONG]
    assert [review.turns[i] for i in others] == [review.weights[i] for i in others]
    assert sampler.order.weights == review.turns
    other, again = reviewed(monkeypatch, cases_of(), list(range(COUNT)), reliability={"parts": False})
    assert (other.left_out, other.turns, other.weights) == ({}, review.weights, review.weights)  # as without parts
    other.restore(review.state())
    assert other.turns == review.turns
    assert all(torch.equal(a.valid, b.valid) for a, b in zip(sampler.cases, again.cases))
    assert not torch.equal(again.cases[2].valid, cases[2].valid)
    other.restore(review.state() | {"left_out": {}})
    assert all(torch.equal(a.valid, b.valid) for a, b in zip(cases, again.cases))


def test_right_labels_are_left_whole() -> None:
    parts = []
    for i, case in enumerate(cases_of(False)):
        ball = bright_ball(i + 100 if i in WRONG else i)[1].astype(np.float32)
        label = case.masks[0].numpy() > 0
        parts.append([parts_of_label(label, ball, case.image.numpy(), SPACING, None, (i,))])
    assert wrong_parts(parts, [False] * COUNT) == {}


def test_a_region_that_is_left_out_gives_no_gradient() -> None:
    case = cases_of()[0]
    region = np.zeros(case.masks.shape[1:], bool)
    region[:, :, 12:] = True
    sampler = PatchSampler([case], replace(CONFIG.data, patch_size=(24, 24, 24), foreground_fraction=0.0), 1, 0)
    sampler.leave_out(0, region)
    batch = sampler.next()
    assert batch.known is not None
    logits = torch.randn((1, 2, 24, 24, 24), generator=torch.Generator().manual_seed(0)).requires_grad_()
    segmentation_loss(logits, batch.target, 0.5, False, batch.valid).sum().backward()
    assert logits.grad is not None
    assert not logits.grad[..., 12:].any()
    assert logits.grad[..., :12].any()
    sampler.leave_out(0)
    assert sampler.next().known is None


def test_of_a_forgotten_structure_the_others_are_learned(monkeypatch: pytest.MonkeyPatch) -> None:
    """By methods that can; others hardly learn from such a case."""
    cases = []
    for i, case in enumerate(cases_of(False)):
        core = shift_border(bright_ball(i)[1], SPACING, -6.0)
        masks = np.stack([case.masks[0].numpy() * ~core, core & (i != 3)]).astype(np.uint8)
        cases.append(replace(case, masks=torch.from_numpy(masks)))

    def seen(able: bool) -> tuple[LabelReview, PatchSampler]:
        review, sampler = reviewed(
            monkeypatch, cases, list(range(COUNT)), learns_partly=able, reliability={"signs": False}
        )
        review.before_training()
        return review, sampler

    review, sampler = seen(True)
    assert {i: out.structures for i, out in review.left_out.items()} == {3: (1,)}
    assert (review.weights[3] < 0.1, review.turns[3]) == (True, 1.0)
    assert sampler.cases[3].missing == (1,)
    (warning,) = told_of_missing(review.rows)
    assert warning.startswith("Learned from without what they lack: case_3. The label lacks core, which 11 of 12")
    review, sampler = seen(False)
    assert (review.left_out, review.turns, sampler.cases[3].missing) == ({}, review.weights, ())
