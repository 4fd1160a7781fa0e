"""What steps of Poisson sampling and Gaussian noise cost: ε for a δ, and the noise for an ε.

The privacy loss distribution is composed by the library dp-accounting, rounded so that ε is never told too small; our own
code computes no ε. Neighbours differ by one unit that is added or removed, and the number of units is public.

Reference: Koskela, Jälkö and Honkela, AISTATS 2020; Doroshenko et al., PoPETs 2022 (the library's own method).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

from ..errors import PrivacyError

ACCOUNTANT = "PLD"
Part = tuple[float, float, int]  # noise multiplier, sampling rate, steps
LEAST_NOISE, MOST_NOISE = 1e-2, 1e4
INTERVAL = 1e-4
# Below this ε the interval shrinks with it, to the least one: roundings of all steps together would be the larger part of it.
FINER_BELOW, LEAST_EPSILON = 1 / 3, 1e-4
RENYI_ORDERS = [
    *range(2, 33),
    40,
    48,
    64,
    96,
    128,
    256,
    512,
    1024,
]  # whole ones: their sums are short and exact
NO_PROTECTION = 5000.0  # an ε above it promises nothing, and is not worth a closer look
PRECISION = 1e-3  # relative, of the noise multiplier that is searched for
NEAR = 1e-2  # the same of what a plan tells
LOOKS = 16  # at the accountant, at most


def default_delta(units: int) -> float:
    """The δ of "auto": at most 1e-5, and a tenth of the chance that one unit's data is simply given away.

    Args:
        units: how many the data has.
    """
    return min(1e-5, 1 / (10 * units))


def epsilon(
    noise_multiplier: float, sampling_rate: float, steps: int, delta: float, interval: float = INTERVAL
) -> float:
    """ε after a number of steps.

    Args:
        noise_multiplier: the noise's deviation over the clip.
        sampling_rate: the probability with which each unit is in a step.
        steps: how many were made; none cost nothing.
        delta: δ.
        interval: by which privacy losses are rounded, always up: larger is faster, and tells a larger ε. Where ε is large or small
            it is taken in proportion.

    Returns:
        An upper bound, infinite without noise.
    """
    return composed(((noise_multiplier, sampling_rate, steps),), delta, interval)


@functools.lru_cache(maxsize=1024)
def composed(parts: tuple[Part, ...], delta: float, interval: float = INTERVAL) -> float:
    """ε of steps of several kinds together: (noise multiplier, sampling rate, steps) of each. Otherwise as `epsilon`.

    Args:
        parts: of each kind its noise multiplier, sampling rate and number of steps.
        delta: δ.
        interval: as of `epsilon`.

    Returns:
        An upper bound; 0 without steps, infinite where a kind has no noise.
    """
    parts = tuple(part for part in parts if part[2])
    if not parts:
        return 0.0
    if any(noise_multiplier == 0 for noise_multiplier, _, _ in parts):
        return math.inf
    rough = _renyi_epsilon(parts, delta)
    if rough > NO_PROTECTION:
        return rough
    from dp_accounting.pld import PLDAccountant

    fitting = interval * min(1.0, max(rough, LEAST_EPSILON) / FINER_BELOW)
    accountant = PLDAccountant(_neighbours(), max(fitting, INTERVAL * rough))
    for part in parts:
        accountant.compose(_event(*part))
    return min(rough, float(accountant.get_epsilon(delta)))


def noise_multiplier_for(
    target: float, sampling_rate: float, steps: int, delta: float, interval: float = INTERVAL
) -> float:
    """The least noise, up to a thousandth, with which the steps cost no more than `target`.

    Args:
        target: ε.
        sampling_rate, steps, delta: as in `epsilon`.
        interval: by which privacy losses are rounded, for an ε of 1 and less; in proportion above.

    Raises:
        PrivacyError: no noise is enough.
    """
    high = _least(1.0, lambda noise: _renyi_epsilon(((noise, sampling_rate, steps),), delta) <= target, 1.1)
    # Rényi orders end, so that no noise at all is enough for them below some ε; a plain Gaussian's is near there.
    plain = sampling_rate * math.sqrt(2 * steps * math.log(1 / delta)) / target
    guess = high if high <= MOST_NOISE else min(max(plain, 2 * LEAST_NOISE), MOST_NOISE / 2)
    interval *= max(1.0, target)
    found = noise_multiplier_near(guess, target, sampling_rate, steps, delta, interval, PRECISION)
    least = high if found is None else min(high, found)
    if least > MOST_NOISE:
        raise PrivacyError(
            "privacy.out-of-reach",
            f"No noise up to {MOST_NOISE:,.0f} times the clip brings {steps:,} steps to ε = {target:g} at δ = {delta:g}.",
            where="privacy.epsilon",
            mend="Allow a larger epsilon, or make fewer steps.",
        )
    return least


def noise_multiplier_near(
    guess: float,
    target: float,
    sampling_rate: float,
    steps: int,
    delta: float,
    interval: float,
    precision: float = NEAR,
) -> float | None:
    """The least noise for an ε, in few looks at the accountant from a good guess; None where there is none in reach.

    Args:
        guess: where to begin.
        target, sampling_rate, steps, delta: as in `noise_multiplier_for`.
        interval: as in `epsilon`.
        precision: relative, of the result.
    """
    here, low, high = math.log(guess), -math.inf, math.inf
    last: tuple[float, float] | None = None
    found = None
    for _ in range(LOOKS):
        noise = float(f"{math.exp(here):.6g}")
        spent = epsilon(noise, sampling_rate, steps, delta, interval)
        value = math.log(max(spent, 1e-9) / target)
        if spent <= target:
            found, high = noise, here
        else:
            low = here
        if high - low < precision or -precision < value <= 0:
            break
        slope = -1.5 if last is None or last[0] == here else (value - last[1]) / (here - last[0])
        last = (here, value)
        there = here - (value + precision / 2) / min(slope, -0.2)
        here = max(here - 1.5, min(here + 1.5, there))
        if not low < here < high:
            here = (low + high) / 2
        if not math.log(LEAST_NOISE) < here < math.log(MOST_NOISE):
            return None
    return found


def _least(start: float, enough: Callable[[float], bool], precision: float) -> float:
    """The least number, up to a factor of `precision`, that is enough, where all larger ones are; beyond MOST_NOISE none."""
    low = high = start
    while low > LEAST_NOISE and enough(low):
        low, high = low / 1.5, low
    while high <= MOST_NOISE and not enough(high):
        low, high = high, high * 1.5
    while high <= MOST_NOISE and high / low > precision:
        middle = float(f"{math.sqrt(low * high):.6g}")
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def _renyi_epsilon(parts: tuple[Part, ...], delta: float) -> float:
    """A rougher upper bound by Rényi divergences (Mironov, CSF 2017), which takes neither time nor memory."""
    from dp_accounting.rdp import RdpAccountant

    accountant = RdpAccountant(RENYI_ORDERS, _neighbours())
    for part in parts:
        accountant.compose(_event(*part))
    return float(accountant.get_epsilon(delta))


def _event(noise_multiplier: float, sampling_rate: float, steps: int) -> Any:
    import dp_accounting

    gaussian = dp_accounting.GaussianDpEvent(noise_multiplier)
    return dp_accounting.SelfComposedDpEvent(
        dp_accounting.PoissonSampledDpEvent(sampling_rate, gaussian), steps
    )


def _neighbours() -> Any:
    import dp_accounting

    return dp_accounting.NeighboringRelation.ADD_OR_REMOVE_ONE
