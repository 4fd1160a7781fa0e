"""Wrong: clips each record, so that an owner with many records weighs many times C."""

import torch


def private_gradient(gradients, owners_N, clip, noise_multiplier, expected_units, generator):
    flat_NP = torch.cat([gradient.flatten(1) for gradient in gradients], 1)
    factors_N = (clip / flat_NP.norm(dim=1).clamp(min=1e-12)).clamp(max=1.0)
    private = []
    for gradient in gradients:
        summed = torch.tensordot(factors_N, gradient, dims=1)
        noise = torch.randn(summed.shape, generator=generator) * noise_multiplier * clip
        private.append((summed + noise) / expected_units)
    return private
