"""The paper's own experiments, written down and ready for a GPU: what they compare, under which noise, for how long."""

from __future__ import annotations

from pathlib import Path

import pytest

from SVLDRLCore.benchmarking.benchmark_settings import (
    BenchmarkSettings,
    read_settings,
    row_overrides,
    warm_up_overrides,
)
from SVLDRLCore.benchmarking.plan import plan_jobs, steps_of
from SVLDRLCore.config.settings import Config
from SVLDRLCore.training.registry import METHODS, load_method_config, method_named

STUDIES = Path(__file__).parents[2] / "studies"
PAPER = ("left_atrium_paper", "pancreas_ct_paper", "brats2021_paper")


def study(name: str) -> BenchmarkSettings:
    return read_settings(STUDIES / f"benchmark_{name}.json")


def of_row(settings: BenchmarkSettings, name: str) -> Config:
    row = settings.rows[name]
    overrides = row_overrides(settings, row, settings.seeds[0], steps_of(settings, row))
    return load_method_config(row.method, settings.preset, row.variant, overrides)


@pytest.mark.parametrize("name", PAPER)
def test_all_methods_are_compared_under_the_papers_noise(name: str) -> None:
    settings = study(name)
    assert settings.preset == name
    assert {noise.kind for noise in settings.noises.values()} == {"mt", "sfda"}
    assert 0.5 in settings.ratios
    methods = {row.method for row in settings.rows.values() if 0.5 in (row.ratios or settings.ratios)}
    backbone = load_method_config("supervised", name, "corrected").network.backbone
    assert methods >= {method for method in METHODS if backbone in method_named(method).backbones}
    assert {row.variant for row in settings.rows.values()} >= {"as_printed", "corrected", "extended"}
    assert len(plan_jobs(settings)) > 20


@pytest.mark.parametrize("name", PAPER)
def test_every_row_learns_as_long_as_printed_with_the_printed_optimiser(name: str) -> None:
    settings = study(name)
    preset = load_method_config("supervised", name, "corrected")
    assert settings.warm_up_steps + settings.steps == preset.train.steps
    for row in settings.rows:
        config = of_row(settings, row)
        total = config.train.steps + (settings.warm_up_steps if settings.rows[row].warm_up == "shared" else 0)
        assert total == preset.train.steps, row
        assert (config.optimiser.name, config.optimiser.learning_rate) == ("sgd", 1e-4), row
        assert config.data.held_out_fraction == 0  # all of the paper's training cases are learned from
        assert (config.data.flip_axes, config.data.intensity_jitter, config.train.batch_size) == ((), 0.0, 1), row


@pytest.mark.parametrize("name", PAPER)
def test_the_shared_warm_up_is_the_printed_one(name: str) -> None:
    """Eq. 1 under the printed optimiser, so that a row as printed may go on from it."""
    settings = study(name)
    shared = load_method_config("supervised", name, "corrected", warm_up_overrides(settings, 0))
    printed = of_row(settings, "SVL-DRL as printed")
    assert shared.optimiser == printed.optimiser
    assert shared.data == printed.data
    assert shared.train.precision == printed.train.precision


@pytest.mark.parametrize("name", PAPER[:2])
def test_the_ablations_leave_out_what_tables_5_and_6_leave_out(name: str) -> None:
    settings = study(name)
    left = {
        "SVL-DRL as printed": (False, True, True),
        "w/o WS (warm-up)": (False, True, True),
        "w/o TS (transition)": (False, False, True),
        "w/o WAT (warm-up, transition)": (False, False, True),
        "w/o FRL (full RL)": (False, True, False),
    }
    for row, there in left.items():
        stages = of_row(settings, row).stages
        assert tuple(share > 0 for share in (stages.warm_up, stages.transition, stages.full_rl)) == there, row
        assert settings.rows[row].warm_up == ("none" if "warm-up" in row else "shared"), row


def test_algorithm_1_line_by_line_is_a_row() -> None:
    settings = study("left_atrium_paper")
    assert of_row(settings, "Algorithm 1 line by line").stages.overlap
    assert not of_row(settings, "SVL-DRL as printed").stages.overlap
