"""The checker of LoRA accepts every right way and names many more mistakes than the shipped variants."""

from __future__ import annotations

from . import Changes

A = "    a = torch.randn(rank, inputs, generator=generator) / math.sqrt(inputs)\n"
B = "    b = torch.zeros(outputs, rank)\n"
STARTED = "return a.requires_grad_(), b.requires_grad_()"
GIVEN = "return x @ weight.detach().T + (x @ a.T) @ b.T * (alpha / rank)"
MERGED = "return (weight + b @ a * (alpha / rank)).detach()"

UNIFORM = [(A, "    a = (torch.rand(rank, inputs, generator=generator) * 2 - 1) / math.sqrt(inputs)\n")]
LIBRARY = [
    (GIVEN, "f = torch.nn.functional.linear\n    return f(x, weight.detach()) + alpha / rank * f(f(x, a), b)")
]
SMALL_SCALED = [(GIVEN, "return x @ weight.detach().T + (x @ a.T) @ (b * (alpha / rank)).T")]


RIGHT: dict[str, Changes] = {
    "uniform": UNIFORM,
    "library": LIBRARY,
    "scaled": SMALL_SCALED,
}


MISTAKES: dict[str, Changes] = {
    "start-type": [(STARTED, "return a.requires_grad_()")],
    "start-shape": [(STARTED, "return a.T.requires_grad_(), b.requires_grad_()")],
    "start-frozen": [(STARTED, "return a.requires_grad_(), b")],
    "start-changes": [(B, "    b = torch.ones(outputs, rank)\n")],
    "start-spread": [(A, A.replace(" / math.sqrt(inputs)", ""))],
    "other-randomness": [(A, A.replace(", generator=generator", ""))],
    "same-randomness": [(A, A.replace("generator=generator", "generator=torch.Generator().manual_seed(0)"))],
    "shape": [(GIVEN, "return x")],
    "not-added": [(GIVEN, "return x @ weight.detach().T")],
    "weight-left-out": [(GIVEN, "return (x @ a.T) @ b.T * (alpha / rank)")],
    "not-by-rank": [(GIVEN, GIVEN.replace("(alpha / rank)", "alpha"))],
    "no-scale": [(GIVEN, GIVEN.replace(" * (alpha / rank)", ""))],
    "scale-inverted": [(GIVEN, GIVEN.replace("alpha / rank", "rank / alpha"))],
    "values": [(GIVEN, GIVEN + " * 1.01")],
    "no-gradient": [(GIVEN, GIVEN.replace("x @ a.T", "x.detach() @ a.T"))],
    "makes-the-product": [(GIVEN, "return x @ weight.detach().T + x @ (b @ a).T * (alpha / rank)")],
    "merged-shape": [(MERGED, "return (b @ a).T * alpha")],
    "merged-scale": [(MERGED, MERGED.replace(" * (alpha / rank)", ""))],
    "merged-differs": [(MERGED, "return weight")],
    "no-learning": [(STARTED, "b.requires_grad_().register_hook(lambda gradient: gradient * 0)\n    return a.requires_grad_(), b")],
}  # fmt: skip
