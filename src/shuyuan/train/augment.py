"""Augmentation: each image a little moved, turned or mirrored, the same for the same seed, step and place in the batch.

Legend: B images of a batch, C channels, H x W pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..recipe import Recipe

SHIFT = 0.1  # the most that an image is moved, as a share of its height and width
DEGREES = 15.0  # the most that it is turned


def moved(inputs: NDArray[Any], recipe: Recipe, random: np.random.Generator) -> NDArray[Any]:
    """A batch's inputs as they are learned from: images as `train.augment` says, all else as it is.

    Args:
        inputs: of a batch; uint8 (B, C, H, W) of images.
        recipe: of the run.
        random: draws what each image becomes.
    """
    return augmented(inputs, recipe.train.augment, random) if recipe.images else inputs


def augmented(
    images_BCHW: NDArray[np.uint8], kinds: Sequence[str], random: np.random.Generator
) -> NDArray[np.uint8]:
    """Images of the same shape, each changed by an amount of its own.

    All changes together are one map of the plane, so that pixels are interpolated once; where it reaches beyond the border,
    the border's pixels go on.

    Args:
        images_BCHW: as they are stored.
        kinds: some of "shift", "rotate", "flip".
        random: draws the amounts, the same number for each image, whatever the kinds are.
    """
    if not kinds or not len(images_BCHW):
        return images_BCHW
    import torch  # recurrent models train without it
    import torch.nn.functional as F

    drawn_B4 = random.uniform(-1, 1, (len(images_BCHW), 4))
    theta_B23 = torch.from_numpy(_maps(drawn_B4, kinds, images_BCHW.shape[2] / images_BCHW.shape[3]))
    images = torch.from_numpy(images_BCHW).float()
    grid = F.affine_grid(theta_B23, list(images.shape), align_corners=False)
    moved = F.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)
    result: NDArray[np.uint8] = moved.round_().to(torch.uint8).numpy()
    return result


def _maps(drawn_B4: NDArray[np.float64], kinds: Sequence[str], aspect: float) -> NDArray[np.float32]:
    """For each image the linear map and the shift from places of the result to places of the image, both from -1 to 1.

    Args:
        drawn_B4: numbers from -1 to 1: two for the shift, one for the angle, one for the mirror.
        kinds: those that are not named change nothing.
        aspect: height over width, by which a turn must stretch, or it would shear.
    """
    across, down, turn, mirror = drawn_B4.T
    angle = np.deg2rad(DEGREES) * turn * ("rotate" in kinds)
    sign = np.where((mirror < 0) & ("flip" in kinds), -1.0, 1.0)
    shift = 2 * SHIFT * ("shift" in kinds)
    cos, sin = np.cos(angle), np.sin(angle)
    rows = [sign * cos, -sign * sin * aspect, across * shift, sin / aspect, cos, down * shift]
    maps: NDArray[np.float32] = np.stack(rows, 1).reshape(-1, 2, 3).astype(np.float32)
    return maps
