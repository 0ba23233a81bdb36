"""Regions of a pseudo-label and what contexts say of them, by hand on small arrays."""

from __future__ import annotations

import numpy as np
import pytest

from SVLDRLCore.adaptation.recomposition import GREY, PREDICTIONS, chess_board, contexts, of_same_size
from SVLDRLCore.adaptation.region_agent import ACTIONS
from SVLDRLCore.adaptation.regions import (
    FEATURES,
    class_entropy,
    class_probabilities,
    codes_of,
    off_main_piece,
    regions_of,
)
from SVLDRLCore.adaptation.views import (
    Viewed,
    charges,
    dice_of_classes,
    gain_of_teaching,
    region_table,
    viewed,
)
from SVLDRLCore.config.settings import Config, load_config


def two_cells() -> np.ndarray:
    """Classes (1, 2, 4): two anchor patches of 2 x 2, the left one half background and half 1, the right one all 2."""
    return np.array([[[0, 1, 2, 2], [0, 1, 2, 2]]])


def test_anchor_patches_are_divided_by_class() -> None:
    nowhere = np.zeros((1, 2, 4), bool)
    regions = regions_of(two_cells(), (1, 2, 2), nowhere)
    assert regions.code.tolist() == [0, 1, 2]
    assert regions.size.tolist() == [2, 2, 4]
    np.testing.assert_array_equal(regions.index, [[[0, 1, 2, 2], [0, 1, 2, 2]]])
    assert regions.means(np.arange(8.0).reshape(1, 2, 4)).tolist() == [2, 3, 4.5]


def test_contested_voxels_are_regions_of_their_own() -> None:
    contested = np.array([[[0, 1, 0, 1], [0, 0, 0, 1]]], bool)
    regions = regions_of(two_cells(), (1, 2, 2), contested)
    np.testing.assert_array_equal(regions.index, [[[0, 2, 3, 4], [0, 1, 3, 4]]])
    assert regions.code.tolist() == [0, 1, 1, 2, 2]
    assert regions.means(contested).tolist() == [0, 0, 1, 0, 1]


def test_classes_of_exclusive_and_nested_structures() -> None:
    masks = np.array([[[[0, 1, 0]]], [[[0, 0, 1]]]], np.uint8)
    assert codes_of(masks, nested=False).tolist() == [[[0, 1, 2]]]
    nested = np.array([[[[0, 1, 1]]], [[[0, 0, 1]]]], np.uint8)
    assert codes_of(nested, nested=True).tolist() == [[[0, 1, 2]]]
    np.testing.assert_allclose(
        class_probabilities(np.array([[[[0.7]]], [[[0.2]]]]), False)[:, 0, 0, 0], [0.1, 0.7, 0.2]
    )
    np.testing.assert_allclose(class_probabilities(np.array([[[[0.7]]], [[[0.2]]]]), True)[:, 0, 0, 0], [0.3, 0.5, 0.2])


def test_entropy_is_one_where_nothing_is_known() -> None:
    assert class_entropy(np.full((2, 1, 1, 1), 1 / 3), False)[0, 0, 0] == pytest.approx(1)
    assert class_entropy(np.array([[[[1.0]]], [[[0.0]]]]), False)[0, 0, 0] == pytest.approx(0, abs=1e-4)


def test_pieces_off_the_main_one() -> None:
    codes = np.array([[[1, 1, 0, 1, 0, 2]]])
    assert off_main_piece(codes).tolist() == [[[False, False, False, True, False, False]]]


def test_a_recomposed_volume_keeps_every_second_block() -> None:
    own = chess_board((2, 4, 4), (2, 2, 2))
    assert own[0].tolist() == [[True, True, False, False]] * 2 + [[False, False, True, True]] * 2
    image = np.random.default_rng(0).random((1, 4, 4, 4)).astype(np.float32)
    other = np.zeros((1, 3, 6, 4), np.float32)
    seen: list[np.ndarray] = []

    def predict(volume: np.ndarray) -> np.ndarray:
        seen.append(volume)
        return volume

    found = dict(contexts(image, predict, (4, 4, 4), {"in target": other, "in source": other}))
    assert len(seen) == PREDICTIONS
    assert seen[0].shape == (1, 5, 5, 5)  # shifted by a third of the window
    for name in found:
        np.testing.assert_array_equal(found[name], image)  # of each volume its own blocks are taken
    kept = chess_board((4, 4, 4), (2, 2, 2))
    np.testing.assert_array_equal(seen[3][0][kept], image[0][kept])
    assert (seen[3][0][~kept] == 0).all()
    assert np.allclose(seen[1][0][~kept], image.mean())


def test_the_whole_image_takes_other_grey_values() -> None:
    image = np.linspace(0, 0.5, 64, dtype=np.float32).reshape(1, 4, 4, 4)
    style = 1 - np.linspace(0, 0.25, 64, dtype=np.float32).reshape(1, 4, 4, 4)
    found = [maps for name, maps in contexts(image, lambda volume: volume, (4, 4, 4), {}, [style]) if name == GREY]
    np.testing.assert_allclose(found[0], 0.75 + image / 2, atol=0.01)


def test_where_other_grey_values_say_otherwise_a_region_is_contested_and_the_consensus_decides() -> None:
    image = np.zeros((1, 4, 4, 8), np.float32)
    image[..., 4:] = 1

    def predict(volume: np.ndarray) -> np.ndarray:
        return (volume > 0.5).astype(np.float32)

    dark = np.full_like(image, 0.25)
    view = viewed(image, predict(image), predict, (4, 4, 8), {}, [dark, dark], False, load_config())
    of_bright = view.regions.code == 1
    assert view.features[of_bright, FEATURES.index("contested")].all()
    assert not view.features[~of_bright, FEATURES.index("contested")].any()
    assert view.teacher.any()
    assert not view.consensus.any()


def test_another_image_is_cut_or_mirrored_to_the_size() -> None:
    image = np.arange(4.0).reshape(1, 1, 1, 4)
    assert of_same_size(image, (1, 1, 2))[0, 0, 0].tolist() == [1, 2]
    assert of_same_size(image, (1, 1, 6))[0, 0, 0].tolist() == [0, 0, 1, 2, 3, 3]


def test_strengths_of_regions_by_hand() -> None:
    """What the agent chooses for a region reaches each of its voxels; the consensus is taken where it says so."""
    codes = two_cells()
    masks = np.stack([codes == 1, codes == 2]).astype(np.uint8)
    consensus = np.stack([codes == 2, codes == 1]).astype(np.uint8)
    regions = regions_of(codes, (1, 2, 2), np.zeros(codes.shape, bool))
    nothing = np.zeros((3, len(FEATURES) + 3), np.float32)
    view = Viewed(masks, consensus, regions, nothing, np.zeros((3, 2)), class_probabilities(masks * 0.5, False))
    made, strength = view.taught_by(np.array([0, 0, ACTIONS - 1]), np.array([0.25, 0, 1]))
    np.testing.assert_array_equal(strength, [[[0.25, 0, 1, 1], [0.25, 0, 1, 1]]])
    np.testing.assert_array_equal(codes_of(made, False), [[[0, 1, 1, 1], [0, 1, 1, 1]]])
    table = region_table(view, np.stack([codes == 1, np.zeros_like(codes)]).astype(np.uint8), False)
    # Structure 1 is right everywhere; 2 is nowhere: its Dice is bounded, 0.2, and a wrong voxel of it costs 1 / 9.
    np.testing.assert_allclose(table.gain[:, 0], [1, 1, -1 / 9], atol=1e-6)
    # By the consensus 1 is called 2, and 2 is called 1, of which a wrong voxel costs 1.
    np.testing.assert_allclose(table.gain[:, 1], [1, -1 / 9, -1], atol=1e-6)


def test_charges_follow_the_dice_of_the_whole_image() -> None:
    codes, truth = np.array([[[1, 1, 1, 0]]]), np.array([[[1, 0, 0, 1]]])
    known = (truth == np.arange(2)[:, None, None, None]).astype(np.float32)
    dice = dice_of_classes(codes, known)
    assert dice.tolist() == pytest.approx([2 / 5])
    assert charges(dice).tolist() == pytest.approx([0.25])  # D / (2 - D)
    np.testing.assert_allclose(gain_of_teaching(codes, known, charges(dice)), [[[1, -0.25, -0.25, -4]]])
    assert dice_of_classes(codes, np.full((2, 1, 1, 4), 0.5)).tolist() == pytest.approx([2 * 1.5 / (3 + 2)])


def test_a_region_earns_from_where_it_raises_the_dice() -> None:
    """Oracle: 100 voxels more, of which a share is right, against the Dice of the image with and without them."""
    right, drawn, size = 60.0, 100.0, 120.0
    dice = 2 * right / (drawn + size)
    charge = float(charges(np.array([dice]))[0])
    for share in np.linspace(0, 1, 21):
        more = 1e-3  # so few that the Dice itself stays
        after = 2 * (right + more * share) / (drawn + more + size)
        earns = share - (1 - share) * charge
        if abs(earns) > 1e-9:
            assert (after > dice) == (earns > 0)


def test_agreement_is_reliability() -> None:
    """A network that says the same in all contexts is reliable everywhere, one that doubts is so by its doubt."""
    image = np.zeros((1, 4, 4, 8), np.float32)
    image[..., 4:] = 1
    config: Config = load_config()

    def sure(volume: np.ndarray) -> np.ndarray:
        return (volume > 0.75).astype(np.float32)

    def doubtful(volume: np.ndarray) -> np.ndarray:
        return 0.2 + 0.6 * (volume > 0.75).astype(np.float32)

    for predict, expected in ((sure, 1.0), (doubtful, 0.8)):
        view = viewed(image, predict(image), predict, (4, 4, 8), {}, [image], False, config)
        assert not view.features[:, FEATURES.index("contested")].any()
        np.testing.assert_allclose(view.features[:, FEATURES.index("reliability")], expected, atol=1e-3)
        np.testing.assert_array_equal(view.teacher, view.consensus)
