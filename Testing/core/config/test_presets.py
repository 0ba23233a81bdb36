"""Every preset in every variant, the papers' settings where a preset claims them, and regions at work."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from SVLDRLCore.config.backbone_facts import backbone_of
from SVLDRLCore.config.settings import (
    VARIANTS,
    config_from_dict,
    config_to_dict,
    load_config,
    preset_names,
)
from SVLDRLCore.data.phantoms import write_phantom_dataset
from SVLDRLCore.errors import InputError
from SVLDRLCore.files.datalist import load_datalist, save_datalist
from SVLDRLCore.files.volumes import read_label, write_label
from SVLDRLCore.jobs.refine import refine
from SVLDRLCore.learning.stages import plan_stages
from SVLDRLCore.masks.structures import structures_of
from SVLDRLCore.models.trained_model import build_networks
from SVLDRLCore.models.weight_header import WithoutWeights
from SVLDRLCore.training.train import train

LABELS = {1: "necrotic core", 2: "oedema", 4: "enhancing tumour"}
TINY = {
    "data": {"patch_size": [16, 16, 16], "spacing_mm": None, "held_out_fraction": 0.0},
    "network": {"feature_size": 8, "levels": 3},
    "mask_agents": {"transition_steps": 1, "full_rl_steps": 1},
    "train": {"steps": 3, "batch_size": 2},
    "stages": {"warm_up": 0.34, "transition": 0.33, "full_rl": 0.33},
}


def test_the_presets_of_the_papers_data_are_there():
    assert {"general", "demo", "left_atrium", "pancreas_ct", "brats2021"} <= set(preset_names())


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("preset", preset_names())
def test_every_preset_loads_in_every_variant(preset, variant):
    config = load_config(preset, variant)
    assert (config.preset, config.variant) == (preset, variant)
    assert config_from_dict(config_to_dict(config)) == config
    assert config.reliability.enabled == (variant == "extended")
    assert config.mask_agents.enabled == (variant == "extended" and not backbone_of(config.network).on_slices)
    assert [stage.name for stage in plan_stages(config.train.steps, config.stages)] == [
        "warm_up", "transition", "full_rl"
    ]  # fmt: skip


def test_pancreas_ct_is_prepared_as_in_the_paper():
    data = load_config("pancreas_ct").data
    assert (data.patch_size, data.spacing_mm) == ((96, 96, 96), (1.0, 1.0, 1.0))
    assert (data.intensity, data.intensity_low, data.intensity_high) == ("window", -125.0, 275.0)
    assert 2 not in data.flip_axes  # the pancreas never lies on the other side


def test_brats_is_prepared_as_in_the_paper():
    data = load_config("brats2021").data
    assert (data.patch_size, data.spacing_mm) == ((128, 128, 128), (1.0, 1.0, 1.0))
    assert data.intensity == "percentile"
    assert data.regions == {"whole tumour": (1, 2, 4), "tumour core": (1, 4), "enhancing tumour": (4,)}


def test_the_demo_does_not_mirror_what_tells_organ_from_neighbour():
    """The bright tube lies before the organ (-h) and to its left (+w): only head and feet may be exchanged."""
    assert load_config("demo").data.flip_axes == (0,)


def tumours(folder):
    """Phantoms with four channels whose nested shells bear the values of BraTS 2021: core 1, oedema 2, enhancing 4."""
    made = load_datalist(
        write_phantom_dataset(folder / "made", 3, 0, channels=4, structures=3, nested=True, size_dhw=(16, 24, 24))
    )
    cases = []
    for case in made.training:
        label = read_label(case.label)
        values = np.array([0, 2, 1, 4], np.uint8)[label.array]  # from outside in
        file = write_label(folder / f"{case.name}.nrrd", values, label.geometry)
        cases.append(replace(case, label=file))
    path = save_datalist(replace(made, labels=LABELS, training=tuple(cases), path=None), folder / "datalist.json")
    return path, cases


def test_a_tiny_run_with_brats_regions(tmp_path):
    datalist, cases = tumours(tmp_path)
    run = tmp_path / "run"
    train(datalist, run, preset="brats2021", overrides=TINY)
    case = cases[0]
    done = refine(case.images, case.label, model=run, output=tmp_path / "refined.nrrd", trust=1.0)
    assert [row["structure"] for row in done.changes] == ["whole tumour", "tumour core", "enhancing tumour"]
    # a mask that is fully trusted comes back with BraTS's own values
    np.testing.assert_array_equal(read_label(done.output).array, read_label(case.label).array)
    alone = refine(case.images, model=run, output=tmp_path / "predicted.nrrd")
    assert set(np.unique(read_label(alone.output).array)) <= {0, 1, 2, 4}


def test_regions_that_the_labels_lack_are_named(tmp_path):
    datalist = write_phantom_dataset(tmp_path / "data", 2, 0, size_dhw=(16, 24, 24))
    with pytest.raises(InputError, match="whole tumour"):
        train(datalist, tmp_path / "run", preset="brats2021", overrides=TINY)


@pytest.mark.parametrize("preset", ["pancreas_ct", "brats2021"])
def test_a_presets_network_can_be_built(preset):
    config = load_config(preset)
    structures = structures_of(LABELS, config.data.regions)
    network = build_networks(config, 4, structures)
    assert structures.nested == (preset == "brats2021")
    assert network.segmentation_decoder.head.out_channels == structures.channels == (3 if structures.nested else 4)


PAPER = {  # section 4.2: patch, spacing in mm, training cases, channels, structures
    "left_atrium_paper": (96, 0.625, 80, 1, {1: "left atrium"}),
    "pancreas_ct_paper": (96, 1.0, 62, 1, {1: "pancreas"}),
    "brats2021_paper": (128, 1.0, 1000, 4, LABELS),
}


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("preset", PAPER)
def test_the_papers_presets_say_what_sections_4_1_and_4_2_print(preset, variant):
    patch, spacing, cases, _, _ = PAPER[preset]
    config = load_config(preset, variant)
    assert (config.data.patch_size, config.data.spacing_mm) == ((patch,) * 3, (spacing,) * 3)
    assert (config.network.backbone, config.network.gradient_checkpointing) == ("swin_unetr", False)
    chosen = config.optimiser
    assert (chosen.name, chosen.learning_rate, chosen.cross_entropy_weight) == ("sgd", 1e-4, 0.0)
    assert not any((chosen.weight_decay, chosen.momentum, chosen.poly_power, chosen.gradient_clip, chosen.ema_decay))
    assert (config.train.batch_size, config.train.precision) == (1, "float32")
    assert (config.train.steps, config.train.steps_per_epoch) == (1000 * cases, cases)  # 1000 epochs, batch 1
    assert (config.data.flip_axes, config.data.intensity_jitter) == ((), 0.0)  # no augmentation is printed


def test_the_papers_presets_prepare_images_as_the_others():
    for preset in ("pancreas_ct", "brats2021"):
        ours, papers = load_config(preset).data, load_config(f"{preset}_paper").data
        assert replace(papers, flip_axes=ours.flip_axes, intensity_jitter=ours.intensity_jitter) == ours


@pytest.mark.parametrize("preset", PAPER)
def test_the_papers_networks_take_the_papers_patches(preset):
    """On tensors without memory: one encoder, three full decoders, as printed."""
    patch, _, _, channels, labels = PAPER[preset]
    config = load_config(preset, "as_printed")
    structures = structures_of(labels, config.data.regions)
    with WithoutWeights():
        network = build_networks(config, channels, structures, image_agents=True)
    size = (patch, patch, patch)
    image = torch.empty(1, channels, *size, device="meta")
    with torch.no_grad():
        features = network.to("meta").encode(image)
        assert network.segment(features, image).shape == (1, structures.channels, *size)
        assert network.value(features, image).shape == (1, 1, *size)
        assert network.policy(features, image).shape == (1, 1, 3, *size)
    assert structures.nested == (preset == "brats2021_paper")
