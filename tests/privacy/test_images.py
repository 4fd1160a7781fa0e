"""Networks for images: clipped sums of units, each with one image or several, equal a float64 loop over units."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from shuyuan.models.cnn import image_classifier
from shuyuan.models.image_config import BODIES, ImageConfig

from .reference import check

Rows = tuple[Tensor, Tensor]


def losses(model: nn.Module, rows: Rows) -> Tensor:
    images, targets = rows
    return F.cross_entropy(model(images), targets, reduction="none")


@pytest.mark.parametrize("size", ["textbook", "small"])
@pytest.mark.parametrize("units", [None, [0, 0, 1, 2, 2, 2]], ids=["an image a unit", "several"])
@pytest.mark.parametrize("side", [8, 13])
def test_the_clip_sees_every_unit(size: str, units: list[int] | None, side: int) -> None:
    widths, residual, hidden = BODIES[size]
    config = ImageConfig(side, side - 1, 3, ("a", "b", "c"), widths, residual, hidden)
    generator = torch.Generator().manual_seed(side)
    images = torch.rand(6, 3, side, side - 1, generator=generator)
    check(image_classifier(config), (images, torch.tensor([1, 1, 2, 1, 1, 1])), losses, units)
