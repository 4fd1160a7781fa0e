"""Wrong: clips the gradient of the whole batch, as everybody does against exploding gradients."""

import torch


def private_gradient(gradients, owners_N, clip, noise_multiplier, expected_units, generator):
    sums = [gradient.sum(0) / expected_units for gradient in gradients]
    norm = torch.stack([part.norm() for part in sums]).norm()
    factor = min(1.0, clip / max(float(norm), 1e-12))
    return [
        part * factor
        + torch.randn(part.shape, generator=generator) * noise_multiplier * clip / expected_units
        for part in sums
    ]
