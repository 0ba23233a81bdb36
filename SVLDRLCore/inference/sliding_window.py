"""Whole volumes by a sliding window, MONAI's to the bit; the window equals the training patch.

A network with normalisation over space, trained on patches, sees another world in a larger window: 10 to 15
Dice points were lost that way on the left atrium, so the window is no option here.

Where memory runs out, fewer windows are taken at a time, in the end one, and then the CPU in place of a graphics card.
The result is the same: to the bit on a CPU with one thread. What is blended lies in the CPU's memory from the start.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from SVLDRLCore.errors import FREE_MEMORY, InputError, is_out_of_memory
from SVLDRLCore.inference.sliding_window_places import gaussian_weights, window_places
from SVLDRLCore.learning.segmentation_loss import probabilities_of
from SVLDRLCore.networks.finite_outputs import finite

Tell = Callable[[str], object]


@torch.no_grad()
def predict_maps(
    predictor: Callable[[Tensor], Tensor],
    inputs: Tensor,
    patch_size: tuple[int, int, int],
    overlap: float = 0.5,
    batch_size: int = 2,
    device: torch.device | str = "cpu",
    progress: Callable[[int, int], None] | None = None,
    *,
    name: str = "the network",
    tell: Tell | None = None,
    modules: Sequence[nn.Module] = (),
    places: Sequence[tuple[int, ...]] | None = None,
) -> Tensor:
    """Run `predictor` on windows of (channels, D, H, W) and blend them with Gaussian weights, float32 on CPU.

    Volumes smaller than the window are padded and cut back. `progress(done, total)` counts windows.

    Args:
        name: whose output it is, for errors.
        tell: told each step taken because memory ran out, in a sentence.
        modules: what `predictor` runs; moved to the CPU where a graphics card is too small for one window, and back.
        places: first voxels (d, h, w) of windows inside the volume: only these, unblended, (windows, ...).

    Raises:
        InputError: the output is not finite, or not even one window fits into the memory.
    """
    windows = _Windows(predictor, batch_size, torch.device(device), progress, tell or (lambda text: None), modules)
    try:
        if places is not None:
            sides = [tuple(slice(low, low + side) for low, side in zip(place, patch_size)) for place in places]
            return windows(torch.stack([inputs[(slice(None), *at)].float() for at in sides]))
        return _blended(windows, inputs.float(), patch_size, overlap, batch_size)
    except FloatingPointError as error:
        why = "its output is not a finite number (NaN or infinite): its weights are broken"
        do = "Use another model, or train it anew with a lower learning rate"
        raise InputError(name, why, do) from error
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        size = " x ".join(str(n) for n in inputs.shape[1:])
        window = " x ".join(str(n) for n in patch_size)
        why = f"the memory does not suffice for {size} voxels in windows of {window}, one at a time"
        raise InputError(name, why, FREE_MEMORY) from error
    finally:
        windows.back()


def _blended(
    predictor: Callable[[Tensor], Tensor],
    volume: Tensor,
    window: Sequence[int],
    overlap: float,
    at_a_time: int,
) -> Tensor:
    """What `predictor` makes of windows (B, channels, d, h, w) of a volume (channels, D, H, W), as a weighted mean."""
    missing = [max(side - n, 0) for side, n in zip(window, volume.shape[1:])]
    padded = functional.pad(volume, [half for n in reversed(missing) for half in (n // 2, n - n // 2)])
    places = window_places(padded.shape[1:], window, overlap)
    weights = gaussian_weights(window)
    total, counted = None, torch.zeros(padded.shape[1:])
    for first in range(0, len(places), at_a_time):
        some = places[first : first + at_a_time]
        made = predictor(torch.stack([padded[:, *place] for place in some]))
        made *= weights
        if total is None:
            total = torch.zeros(made.shape[1], *padded.shape[1:])
        for place, one in zip(some, made):
            total[:, *place] += one
            counted[place] += weights
    assert total is not None, "a volume has one window at least"
    total /= counted
    return total[:, *(slice(n // 2, n // 2 + size) for n, size in zip(missing, volume.shape[1:]))]


class _Windows:
    """The predictor, on as many windows at a time as the memory holds."""

    def __init__(
        self,
        predictor: Callable[[Tensor], Tensor],
        most: int,
        device: torch.device,
        progress: Callable[[int, int], None] | None,
        tell: Tell,
        modules: Sequence[nn.Module],
    ) -> None:
        self.predictor, self.most, self.device = predictor, most, device
        self.progress, self.tell, self.modules = progress, tell, modules
        self.wanted, self.done = device, 0

    def __call__(self, windows: Tensor) -> Tensor:
        made: list[Tensor] = []
        first = 0
        while first < len(windows):
            some, short = windows[first : first + self.most], False
            try:
                made.append(self._predict(some))
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error) or (len(some) == 1 and self.device.type == "cpu"):
                    raise
                short = True
            if short:  # outside of the handler: the error's traceback holds what filled the memory
                self._take_less(len(some))
                continue
            first += len(some)
            self.done += len(some)
            if self.progress:
                self.progress(self.done, -1)
        return made[0] if len(made) == 1 else torch.cat(made)

    def _predict(self, windows: Tensor) -> Tensor:
        moved = windows.to(self.device).to(memory_format=torch.channels_last_3d)
        return finite(self.predictor(moved).float()).cpu()

    def _take_less(self, tried: int) -> None:
        """Go on in a smaller way, and tell it."""
        if tried > 1:
            self.most = tried // 2
            self.tell(f"The memory did not suffice for {tried} windows at a time; going on with {self.most}.")
        else:
            self._move(torch.device("cpu"))
            self.tell(f"The memory of {self.wanted} does not suffice for one window; going on with the CPU, slowly.")
        if self.wanted.type == "cuda":
            torch.cuda.empty_cache()

    def back(self) -> None:
        """The modules where they were."""
        if self.device != self.wanted:
            self._move(self.wanted)

    def _move(self, device: torch.device) -> None:
        self.device = device
        for module in self.modules:
            module.to(device)


def predict_probabilities(
    network: nn.Module,
    image: Tensor | np.ndarray,
    patch_size: tuple[int, int, int],
    nested: bool,
    overlap: float = 0.5,
    batch_size: int = 2,
    device: torch.device | str = "cpu",
    progress: Callable[[int, int], None] | None = None,
    *,
    name: str = "the network",
    tell: Tell | None = None,
    places: Sequence[tuple[int, ...]] | None = None,
) -> np.ndarray:
    """Probabilities of the structures (C, D, H, W) for an image (M, D, H, W); only the segmentation branch runs.

    `name`, `tell` and `places`, and what is raised: see `predict_maps`.
    """
    was_training = network.training
    network.eval()
    try:
        maps = predict_maps(
            lambda x: probabilities_of(finite(network(x)), nested),
            torch.as_tensor(image),
            patch_size,
            overlap,
            batch_size,
            device,
            progress,
            name=name,
            tell=tell,
            modules=[network],
            places=places,
        )
    finally:
        network.train(was_training)
    return maps.numpy()
