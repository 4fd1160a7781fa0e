"""The checker of `private_gradient` accepts every right way and names many more mistakes than the shipped variants."""

from __future__ import annotations

from . import Changes

SUM = "sum_P = (factors_U[:, None] * units_UP).sum(0)"
NOISE = "noise_P = torch.randn(len(sum_P), generator=generator) * deviation"
BOTH = "(sum_P + noise_P) / expected_units"
MADE = "return [part.view(shape) for part, shape in pairs]"

MATRIX_PRODUCT = [(SUM, "sum_P = factors_U @ units_UP")]
NORMAL = [("torch.randn(len(sum_P), generator=generator) * deviation",
           "torch.empty(len(sum_P)).normal_(0.0, deviation, generator=generator)")]  # fmt: skip
DIVIDED_APART = [(BOTH, "sum_P / expected_units + noise_P / expected_units")]
IN_A_TUPLE = [(MADE, MADE.replace("[", "tuple(").replace("]", ")"))]


EACH = "torch.cat([torch.randn(gradient.shape[1:], generator=FROM).flatten() for gradient in gradients])"
ONE_AT_A_TIME = [("torch.randn(len(sum_P), generator=generator)", EACH.replace("FROM", "generator"))]
BEGINS_AGAIN = [
    (
        "torch.randn(len(sum_P), generator=generator)",
        EACH.replace("FROM", "generator.manual_seed(generator.initial_seed())"),
    )
]

RIGHT: dict[str, Changes] = {
    "product": MATRIX_PRODUCT,
    "normal": NORMAL,
    "apart": DIVIDED_APART,
    "tuple": IN_A_TUPLE,
    "parameters": ONE_AT_A_TIME,
}


MISTAKES: dict[str, Changes] = {
    "return-type": [(MADE, "return private_P")],
    "shape": [("part.view(shape)", "part")],
    "became-infinite": [(BOTH, "(sum_P + noise_P) / 0")],
    "changes-arguments": [("    shapes = ", "    gradients[0].zero_()\n    shapes = ")],
    "not-clipped": [("factors_U[:, None] * units_UP", "units_UP")],
    "clip-enlarges": [("norms_U.nan_to_num(0.0).clamp(min=clip)", "norms_U.nan_to_num(0.0)")],
    "not-divided": [(BOTH, "sum_P + noise_P / expected_units")],
    "realised-batch": [(BOTH, "sum_P / max(1, len(owners_N)) + noise_P / expected_units")],
    "divided-twice": [(SUM, "sum_P = (factors_U[:, None] * units_UP).sum(0) / expected_units")],
    "wrong-sum": [("clamp(min=clip)", "clamp(min=clip) / 2")],
    "sensitivity": [("clamp(min=clip)", "clamp(min=clip, max=1e4)")],
    "no-noise": [(BOTH, "sum_P / expected_units")],
    "noise-divided-twice": [(NOISE, NOISE + " / expected_units")],
    "noise-not-divided": [(BOTH, "sum_P / expected_units + noise_P")],
    "noise-over-realised-batch": [(BOTH, "sum_P / expected_units + noise_P / max(1, len(owners))")],
    "noise-for-each-unit": [(NOISE, NOISE.replace("len(sum_P)", "(len(owners), len(sum_P))") + "\n    noise_P = noise_P.sum(0)")],
    "noise-without-clip": [("deviation = noise_multiplier * clip", "deviation = noise_multiplier")],
    "noise-size": [(NOISE, NOISE + " / 3")],
    "noise-mean": [(NOISE, NOISE + " + deviation")],
    "other-randomness": [(NOISE, NOISE.replace(", generator=generator", ""))],
    "same-noise": [(NOISE, NOISE.replace("generator=generator", "generator=torch.Generator().manual_seed(0)"))],
    "same-noise: for each parameter": BEGINS_AGAIN,
    "empty-batch-fails": [("gradient.flatten(1)", "gradient.reshape(len(gradient), -1)")],
    "empty-batch-noise": [(BOTH, "(sum_P + noise_P * bool(len(owners))) / expected_units")],
    "one-infinite-unit": [("    units_UP[~norms_U.isfinite()] = 0.0\n", "")],
}  # fmt: skip
