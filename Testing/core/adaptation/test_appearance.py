"""Images in another appearance: grey values change, shapes stay."""

from __future__ import annotations

import torch

from SVLDRLCore.adaptation.appearance import fourier_swap, grey_levels, match_histogram, random_appearance


def noise(seed: int, *shape: int) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def test_a_fourier_swap_takes_the_low_frequencies_of_the_other_image() -> None:
    content, style = 0.3 + 0.1 * noise(0, 1, 1, 8, 8, 8), 0.5 + 0.2 * noise(1, 1, 1, 8, 8, 8)
    swapped = fourier_swap(content, style, 0.0)  # the mean alone
    torch.testing.assert_close(swapped.mean(), style.mean())
    torch.testing.assert_close(swapped - swapped.mean(), content - content.mean())
    torch.testing.assert_close(fourier_swap(content, content, 0.2), content)
    everything = fourier_swap(content, style, 0.5)
    amplitudes = [torch.fft.fftn(x, dim=(2, 3, 4)).abs() for x in (everything, style)]
    torch.testing.assert_close(*amplitudes, rtol=1e-3, atol=1e-3)


def test_a_matched_histogram_is_that_of_the_other_image_and_keeps_the_order() -> None:
    image, other = noise(0, 1, 6, 7, 8), noise(1, 1, 9, 9, 9).square()
    matched = match_histogram(image, grey_levels(image), grey_levels(other))
    torch.testing.assert_close(grey_levels(matched), grey_levels(other), atol=0.02, rtol=0)
    order = image.flatten().argsort()
    assert (matched.flatten()[order].diff() >= 0).all()


def test_an_image_of_one_grey_level_can_be_matched() -> None:
    flat, other = torch.full((1, 4, 4, 4), 0.5), noise(1, 1, 4, 4, 4)
    assert torch.isfinite(match_histogram(flat, grey_levels(flat), grey_levels(other))).all()


def test_a_random_appearance_spreads_over_the_unit_range_and_is_drawn_anew() -> None:
    image, generator = noise(0, 2, 2, 6, 6, 6), torch.Generator().manual_seed(3)
    one, two = random_appearance(image, generator), random_appearance(image, generator)
    assert one.shape == image.shape
    assert (one.amin((2, 3, 4)) == 0).all()
    torch.testing.assert_close(one.amax((2, 3, 4)), torch.ones(2, 2))
    assert not torch.equal(one, two)
    assert torch.equal(one, random_appearance(image, torch.Generator().manual_seed(3)))
