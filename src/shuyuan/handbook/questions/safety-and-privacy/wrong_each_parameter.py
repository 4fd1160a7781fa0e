"""Wrong: clips each parameter by itself to C, so that a unit weighs up to C times the root of their number."""

import torch


def private_gradient(gradients, owners_N, clip, noise_multiplier, expected_units, generator):
    _, unit_N = torch.unique(owners_N, return_inverse=True)
    count = int(unit_N.max()) + 1 if len(unit_N) else 0
    private = []
    for gradient in gradients:
        flat_NP = gradient.flatten(1)
        units_UP = torch.zeros(count, flat_NP.shape[1]).index_add_(0, unit_N, flat_NP)
        factors_U = (clip / units_UP.norm(dim=1).clamp(min=1e-12)).clamp(max=1.0)
        summed = (factors_U[:, None] * units_UP).sum(0)
        noise = torch.randn(summed.shape, generator=generator) * noise_multiplier * clip
        private.append(((summed + noise) / expected_units).view(gradient.shape[1:]))
    return private
