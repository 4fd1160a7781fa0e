"""The private gradient of one step: clip each unit, add them up, add noise, divide."""

import torch


def private_gradient(gradients, owners_N, clip, noise_multiplier, expected_units, generator):
    """Returns one tensor a parameter; see starter.py for what each argument is."""
    flat_NP = torch.cat([gradient.flatten(1) for gradient in gradients], 1)  # one vector, so one norm
    owners, unit_N = torch.unique(owners_N, return_inverse=True)
    units_UP = flat_NP.new_zeros(len(owners), flat_NP.shape[1]).index_add_(0, unit_N, flat_NP)

    norms_U = units_UP.norm(dim=1)
    units_UP[~norms_U.isfinite()] = 0.0  # setting, not multiplying: NaN times zero is NaN
    factors_U = (clip / norms_U.nan_to_num(0.0).clamp(min=clip)).unsqueeze(1)

    sum_P = (factors_U * units_UP).sum(0)  # of no units: zero
    noise_P = torch.randn(len(sum_P), generator=generator) * noise_multiplier * clip
    private_P = (sum_P + noise_P) / expected_units  # how many came is itself a secret
    shapes = [gradient.shape[1:] for gradient in gradients]
    parts = private_P.split([shape.numel() for shape in shapes])
    return [part.view(shape) for part, shape in zip(parts, shapes, strict=True)]
