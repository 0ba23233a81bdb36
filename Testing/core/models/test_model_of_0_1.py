"""A model that version 0.1 wrote loads, predicts and refines as it did then."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from SVLDRLCore.config.stage_steps import stage_steps
from SVLDRLCore.mask_refinement.editing import predict, refined_belief
from SVLDRLCore.models.trained_model import load_model

FILE = Path(__file__).parent / "model_of_0_1.zip"
"""Of the default: agents on the image, too, whose decoders no prediction uses; settings by their old names."""
RESULTS = FILE.with_name("model_of_0_1_results.npz")


def test_a_model_of_version_0_1_predicts_and_refines_as_it_did() -> None:
    model, expected = load_model(FILE), np.load(RESULTS)
    shape = (10, 12, 12)
    z, y, x = np.indices(shape)
    ball = ((z - 5) ** 2 + (y - 6) ** 2 + (x - 6) ** 2 < 12).astype(np.float32)[None]
    image = 0.3 * np.random.default_rng(0).random((1, *shape)).astype(np.float32) + 0.6 * ball
    prediction = predict(model, image)
    np.testing.assert_allclose(prediction, expected["prediction"], atol=1e-5)
    refined = refined_belief(model, image, ball, prediction, (4.0, 4.0, 4.0), [0], trust=0.0)
    np.testing.assert_allclose(refined, expected["refined"], atol=1e-5)
    assert model.config.variant == "extended"
    assert stage_steps(model.config) == {"warm_up": 12, "transition": 6, "full_rl": 3}
