"""Judges `private_gradient` by what it makes of small gradients: sums, sensitivity, noise, the empty batch.

Without noise the result is exact, so the mistake can be named by computing what each mistake would give. With noise it
is told from the deviation over some ten thousand elements, which then is right within two percent.

N records, U units.
"""

import itertools
import math

import torch

SHAPES = ((5, 4), (7,), (2, 3, 2))
WIDE = ((120, 100), (9000,))  # for the noise: many elements
CLIP, EXPECTED = 0.5, 8.0
CLOSE = 1e-3
NOISE_CLOSE = 0.05  # six deviations of what is measured
GAUSSIAN, SHAPE_CLOSE = (
    (2 / math.pi) ** 0.5,
    0.03,
)  # mean distance from zero over deviation: 0.80; uniform 0.87, Laplace 0.71


def check(answer, wrong):
    check_form(answer.private_gradient, wrong)
    check_sum(answer.private_gradient, wrong)
    check_sensitivity(answer.private_gradient, wrong)
    check_noise(answer.private_gradient, wrong)
    check_empty(answer.private_gradient, wrong)
    check_not_finite(answer.private_gradient, wrong)


def make(owners, size, shapes=SHAPES, seed=1):
    """Gradients of the records of these owners, each record's norm about `size`, and the owners as a tensor."""
    maker = torch.Generator().manual_seed(seed)
    gradients = [torch.randn(len(owners), *shape, generator=maker) for shape in shapes]
    norms = stacked(gradients).norm(dim=1).float()
    for gradient in gradients:
        gradient *= size / norms.view(-1, *[1] * (gradient.dim() - 1))
    return gradients, torch.tensor(owners, dtype=torch.int64)


def run(private_gradient, gradients, owners_N, sigma, clip=CLIP, seed=5):
    copies = [gradient.clone() for gradient in gradients]
    generator = torch.Generator().manual_seed(seed)
    return private_gradient(copies, owners_N.clone(), clip, sigma, EXPECTED, generator)


# ---- what comes back ------------------------------------------------------------------------------------------------


def check_form(private_gradient, wrong):
    gradients, owners_N = make([3, 1, 1], 0.1)
    copies, owners_copy_N = [gradient.clone() for gradient in gradients], owners_N.clone()
    generator = torch.Generator().manual_seed(5)
    returned = private_gradient(copies, owners_copy_N, 1e-3, 1.0, EXPECTED, generator)
    judge_form(returned, gradients, wrong)
    same = all(torch.equal(a, b) for a, b in zip(copies, gradients, strict=True))
    if not same or not torch.equal(owners_copy_N, owners_N):
        wrong("changes-arguments")


def judge_form(returned, gradients, wrong):
    if not isinstance(returned, list | tuple) or len(returned) != len(gradients):
        wrong("return-type", count=len(gradients), what=type(returned).__name__)
    for part, gradient in zip(returned, gradients, strict=True):
        if not isinstance(part, torch.Tensor):
            wrong("return-type", count=len(gradients), what=f"list of {type(part).__name__}")
        if part.shape != gradient.shape[1:]:
            wrong("shape", shape=tuple(part.shape), wanted=tuple(gradient.shape[1:]))
        if not bool(part.isfinite().all()):
            wrong("became-infinite")


# ---- without noise: the clipped sum over a constant -----------------------------------------------------------------


def check_sum(private_gradient, wrong):
    small, owners_N = make([4, 2, 9], 0.1 * CLIP)
    name_sum(run(private_gradient, small, owners_N, 0.0), small, owners_N, wrong)
    large, owners_N = make([7, 3, 7, 5, 3, 7, 1], 4 * CLIP, seed=2)
    for gradient in large:
        gradient[-1] *= 0.02  # one unit stays below the clip
    name_sum(run(private_gradient, large, owners_N, 0.0), large, owners_N, wrong)


def name_sum(returned, gradients, owners_N, wrong):
    """Compares with the right sum, then with what each known mistake makes of these gradients."""
    found = flat(returned)
    right = clipped_by_unit(gradients, owners_N)
    if near(found, right / EXPECTED):
        return
    units, records = len(set(owners_N.tolist())), len(owners_N)
    if near(found, right):
        wrong("not-divided")
    if any(near(found, right / n) for n in (units, records)):
        wrong("realised-batch")
    if any(near(found, right / EXPECTED / n) for n in (units, records, EXPECTED)):
        wrong("divided-twice")
    constants = (EXPECTED, units, records, 1.0)
    by_unit, by_record = summed(gradients, owners_N), stacked(gradients)
    for mistake, result in mistakes(by_unit, by_record, gradients, owners_N).items():
        if any(near(found, result / n) for n in constants):
            name_clipping(mistake, wrong)
    wrong("wrong-sum", norm=f"{float(found.norm()):.4g}", right=f"{float(right.norm()) / EXPECTED:.4g}")


def mistakes(by_unit, by_record, gradients, owners_N):
    """What the sum would be under each mistake in clipping."""
    norms_U = by_unit.norm(dim=1, keepdim=True)
    total, mean = by_unit.sum(0), by_unit.sum(0) / EXPECTED
    return {
        "not": total,
        "records": (by_record * factors(by_record)).sum(0),
        "parameters": flat([each_parameter(gradient, owners_N) for gradient in gradients]),
        "sum": total * float(factors(total[None])),
        "mean": mean * float(factors(mean[None])) * EXPECTED,
        "normalised": (by_unit / norms_U * CLIP).sum(0),
    }


def name_clipping(mistake, wrong):
    if mistake == "not":
        wrong("not-clipped")
    if mistake == "records":
        wrong("clips-each-record")
    if mistake == "parameters":
        wrong("clips-each-parameter")
    if mistake == "normalised":
        wrong("clip-enlarges")
    wrong("clips-the-batch")


def check_sensitivity(private_gradient, wrong):
    """One unit more, whatever its records hold, moves the sum by C at most: the whole promise rests on it."""
    for seed, size in itertools.product(range(4), (0.2, 3.0, 1e6)):
        gradients, owners_N = make([0, 1, 2, 1, 8, 8, 8, 8], size, seed=seed)
        without = [gradient[:4] for gradient in gradients]
        more = flat(run(private_gradient, gradients, owners_N, 0.0))
        less = flat(run(private_gradient, without, owners_N[:4], 0.0))
        moved = float((more - less).norm()) * EXPECTED
        if not moved <= CLIP * (1 + CLOSE):
            wrong("sensitivity", moved=f"{moved:.4g}", clip=CLIP)


# ---- the noise ------------------------------------------------------------------------------------------------------


def check_noise(private_gradient, wrong):
    nothing, owners_N = make([1, 2, 3, 3, 4, 5], 0.0, WIDE)
    for sigma, clip in ((1.0, 2.0), (3.0, 0.25)):
        returned = run(private_gradient, nothing, owners_N, sigma, clip)
        judge_form(returned, nothing, wrong)
        for part in returned:
            name_noise(float(part.std()), sigma, clip, owners_N, wrong)
        if not abs(float(flat(returned).mean())) < 0.05 * sigma * clip / EXPECTED:
            wrong("noise-mean")
        if not abs(float(flat(returned).abs().mean() / flat(returned).std()) - GAUSSIAN) < SHAPE_CLOSE:
            wrong("noise-not-gaussian")
    again = flat(run(private_gradient, nothing, owners_N, sigma, clip))
    if not torch.equal(again, flat(returned)):
        wrong("other-randomness")
    other = flat(run(private_gradient, nothing, owners_N, sigma, clip, seed=6))
    first, second = (part.flatten()[:1000] for part in returned)
    if near(other, again) or near(first, second):
        wrong("same-noise")


def name_noise(deviation, sigma, clip, owners_N, wrong):
    """The deviation of one element, held against the right one and against known mistakes."""
    right = sigma * clip / EXPECTED
    units, records = len(set(owners_N.tolist())), len(owners_N)
    times = deviation / right
    if abs(times - 1) < NOISE_CLOSE:
        return
    if times == 0:
        wrong("no-noise")
    if any(abs(times * n - 1) < NOISE_CLOSE for n in (EXPECTED, units, records)):
        wrong("noise-divided-twice")
    if abs(times / EXPECTED - 1) < NOISE_CLOSE:
        wrong("noise-not-divided")
    if any(abs(times * n / EXPECTED - 1) < NOISE_CLOSE for n in (units, records)):
        wrong("noise-over-realised-batch")
    if any(abs(times / n**0.5 - 1) < NOISE_CLOSE for n in (units, records)):
        wrong("noise-for-each-unit")
    if abs(times * clip - 1) < NOISE_CLOSE:
        wrong("noise-without-clip")
    wrong("noise-size", times=f"{times:.3g}")


def check_empty(private_gradient, wrong):
    """A batch to which no coin fell: noise all the same, else it tells that nobody was there."""
    nobody, owners_N = [torch.zeros(0, *shape) for shape in WIDE], torch.zeros(0, dtype=torch.int64)
    try:
        returned = run(private_gradient, nobody, owners_N, 2.0)
    except Exception as error:
        wrong("empty-batch-fails", what=cause(error))
    judge_form(returned, nobody, wrong)
    right = 2.0 * CLIP / EXPECTED
    for part in returned:
        if not abs(float(part.std()) / right - 1) < NOISE_CLOSE:
            wrong("empty-batch-noise", found=f"{float(part.std()):.3g}", right=f"{right:.3g}")


def check_not_finite(private_gradient, wrong):
    gradients, owners_N = make([1, 2, 2, 3, 4], 4 * CLIP)
    gradients[0][1, 0, 0], gradients[2][4, 1, 1, 1] = float("nan"), float("inf")
    returned = run(private_gradient, gradients, owners_N, 0.0)
    rest = clipped_by_unit([gradient[[0, 3]] for gradient in gradients], owners_N[[0, 3]])
    if not near(flat(returned), rest / EXPECTED):
        wrong("one-infinite-unit")


# ---- measuring ------------------------------------------------------------------------------------------------------


def clipped_by_unit(gradients, owners_N):
    units = summed(gradients, owners_N)
    return (units * factors(units)).sum(0)


def summed(gradients, owners_N):
    """One row a unit: its records added up, all parameters side by side."""
    rows = stacked(gradients)
    return torch.stack([rows[owners_N == owner].sum(0) for owner in owners_N.unique()])


def each_parameter(gradient, owners_N):
    return clipped_by_unit([gradient], owners_N)


def factors(rows):
    """What each row is multiplied by, so that its norm is CLIP at most."""
    return (CLIP / rows.norm(dim=1, keepdim=True)).clamp(max=1.0)


def stacked(gradients):
    return torch.cat([gradient.double().flatten(1) for gradient in gradients], 1)


def flat(tensors):
    return torch.cat([tensor.detach().double().flatten() for tensor in tensors])


def near(a, b):
    return float((a - b).norm()) <= CLOSE * float(b.norm())


def cause(error):
    """What went wrong inside the answer, in one line."""
    outcome = getattr(error, "outcome", {})
    return str(outcome.get("what") or error or type(error).__name__).splitlines()[0][:200]
