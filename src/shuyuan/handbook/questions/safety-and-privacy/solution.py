"""The private gradient of one step: clip, add up, add noise, divide."""

import torch


def private_gradient(
    gradients,
    owners_N,
    clip,
    noise_multiplier,
    expected_units,
    generator,
):
    """Returns one tensor a parameter; starter.py says what is given."""
    # One vector a record, so one norm over all parameters.
    flat_NP = torch.cat([gradient.flatten(1) for gradient in gradients], 1)
    owners, unit_N = torch.unique(owners_N, return_inverse=True)
    units_UP = flat_NP.new_zeros(len(owners), flat_NP.shape[1])
    units_UP.index_add_(0, unit_N, flat_NP)

    norms_U = units_UP.norm(dim=1)
    # Set, not multiplied: NaN times zero is NaN.
    units_UP[~norms_U.isfinite()] = 0.0
    factors_U = clip / norms_U.nan_to_num(0.0).clamp(min=clip)

    sum_P = (factors_U[:, None] * units_UP).sum(0)  # of no units: zero
    deviation = noise_multiplier * clip
    noise_P = torch.randn(len(sum_P), generator=generator) * deviation
    # A constant: how many units came is itself a secret.
    private_P = (sum_P + noise_P) / expected_units
    shapes = [gradient.shape[1:] for gradient in gradients]
    parts = private_P.split([shape.numel() for shape in shapes])
    pairs = zip(parts, shapes, strict=True)
    return [part.view(shape) for part, shape in pairs]
