"""How agents in pixels draw a mask, step by step, as in PixelDRL-MG's Fig. 4. Needs Matplotlib."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from SVLDRLCore.evaluation.plotting import figure_file, new_figure, report_style

SET_NOW, KEPT_NOW = 2, 3
"""Values of an action map where an agent did otherwise than the step before (`pixel_drl.step_maps.ACTION_NAMES`)."""
COLOURS = np.array([[0.80, 0.89, 0.96], [0.10, 0.18, 0.45], [0.86, 0.16, 0.13], [0.86, 0.16, 0.13]])
"""Of an action map's values: background light blue, kept navy, changed red."""
MASK_COLOUR = np.array([1.0, 0.65, 0.1])
_INCHES = 1.3


def episode_figure(
    image: np.ndarray,
    masks: Sequence[NDArray[np.integer]],
    actions: Sequence[NDArray[np.integer]],
    slice_index: int | None = None,
    image_format: str = "png",
) -> bytes:
    """Above the image with the mask before the first step and after each; below what the agents did, changes red.

    Args:
        image: grey values (D, H, W).
        masks: label maps of f^(0) .. f^(T), (D, H, W).
        actions: action maps of the T steps (`StepMaps.actions`).
        slice_index: the slice to show; else the one with most of the last mask.
        image_format: "png" or "svg".

    Raises:
        InputError: Matplotlib is not installed.
    """
    index = int((masks[-1] > 0).sum((1, 2)).argmax()) if slice_index is None else slice_index
    low, high = np.percentile(image[index], (1, 99.5))
    grey = ((image[index] - low) / max(high - low, 1e-6)).clip(0, 1)[..., None].repeat(3, -1)
    with report_style():
        height = _INCHES * grey.shape[0] / grey.shape[1]
        figure = new_figure(_INCHES * len(masks), 2 * height + 0.3)
        panels = figure.subplots(2, len(masks), squeeze=False)
        figure.subplots_adjust(0, 0, 1, 1 - 0.25 / (2 * height + 0.3), wspace=0.03, hspace=0.03)
        for step, mask in enumerate(masks):
            drawn = (mask[index] > 0)[..., None]
            panels[0, step].imshow(np.where(drawn, 0.5 * grey + 0.5 * MASK_COLOUR, grey), interpolation="nearest")
            panels[0, step].set_title(f"t = {step}", fontsize=8, pad=2)
            if step:
                panels[1, step].imshow(COLOURS[actions[step - 1][index]], interpolation="nearest")
        for panel in panels.flat:
            panel.set_axis_off()
        return figure_file(figure, image_format)
