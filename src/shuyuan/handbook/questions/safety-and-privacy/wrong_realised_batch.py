"""Wrong: divides by the number of units that came, which differs between neighbours."""

import torch


def private_gradient(gradients, owners_N, clip, noise_multiplier, expected_units, generator):
    flat_NP = torch.cat([gradient.flatten(1) for gradient in gradients], 1)
    owners, unit_N = torch.unique(owners_N, return_inverse=True)
    units_UP = torch.zeros(len(owners), flat_NP.shape[1]).index_add_(0, unit_N, flat_NP)
    factors_U = (clip / units_UP.norm(dim=1).clamp(min=1e-12)).clamp(max=1.0)
    summed_P = (factors_U[:, None] * units_UP).sum(0)
    noise_P = torch.randn(len(summed_P), generator=generator) * noise_multiplier * clip
    private_P = (summed_P + noise_P) / max(1, len(owners))
    sizes = [gradient.flatten(1).shape[1] for gradient in gradients]
    parts = private_P.split(sizes)
    return [part.view(gradient.shape[1:]) for part, gradient in zip(parts, gradients, strict=True)]
