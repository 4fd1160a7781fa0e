"""What a step of private training does, in public numbers: all that a guarantee depends on. Loads no torch."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from ..errors import PrivacyError
from ..recipe import Recipe
from . import accountant

Clipping = Literal["joint", "per-layer"]
AUTO_NORM, AUTO_STABILITY = 1.0, 0.01
# Sums in float32 round. Every factor is made smaller by this share, far above what the rounding of a few thousand
# additions can add to a norm (2^-24 each), so that no unit moves the sum by more than the clip.
ROUNDING = 1e-4


@dataclass(frozen=True)
class Mechanism:
    """What is done at every step, and so what a guarantee is about: public numbers, none of which is learned from records.

    Attributes:
        units: how many units the data has; public.
        expected_batch: units a step on average; each is in it with probability `sampling_rate`.
        steps: made at most.
        noise_multiplier: the noise's deviation over the clip.
        clip: the largest norm of one unit's part, or "auto".
        clipping: "joint" over all parameters, or "per-layer".
        delta: δ.
        unit: what a unit is: "owner" or "record".
    """

    units: int
    expected_batch: float
    steps: int
    noise_multiplier: float
    clip: float | Literal["auto"]
    clipping: Clipping
    delta: float
    unit: str = "record"

    @property
    def sampling_rate(self) -> float:
        """The probability with which each unit is in a step."""
        return self.expected_batch / self.units

    def epsilon(self, steps: int) -> float:
        """ε of so many steps.

        Args:
            steps: how many are made; 0 cost nothing.

        Returns:
            An upper bound at this mechanism's δ; infinite without noise.
        """
        return accountant.epsilon(self.noise_multiplier, self.sampling_rate, steps, self.delta)


def mechanism_in(recipe: Recipe) -> Mechanism | None:
    """The mechanism that stands in a resolved recipe; None before training, and where it is not private.

    Args:
        recipe: as the run resolved it.
    """
    table = recipe.resolved.get("privacy")
    return None if table is None else Mechanism(**table)


def mechanism(
    *,
    units: int,
    expected_batch: float,
    steps: int,
    epsilon: float | None = None,
    noise_multiplier: float | None = None,
    delta: float | Literal["auto"] = "auto",
    clip: float | Literal["auto"] = 1.0,
    clipping: Clipping = "joint",
    unit: str = "record",
    interval: float = accountant.INTERVAL,
) -> Mechanism:
    """Fills in what is left open: δ from the number of units, and the least noise that keeps to an ε, found with privacy losses that
    are rounded by an interval: coarser ones are faster, and give a little more noise.

    Args:
        units: N, how many there are; it is public.
        expected_batch: units a step in the mean; each takes part with the chance expected_batch / units.
        steps: of the whole training.
        epsilon: to keep to; given alone.
        noise_multiplier: standard deviation of the noise over the clip, instead of `epsilon`.
        delta: "auto" is min(1e-5, 1 / (10 units)).
        clip: the largest norm of a unit's gradient; "auto": each is brought to about that norm.
        clipping: "joint", over all parameters at once, or "per-layer".
        unit: "record" or "owner", said in what is stated.
        interval: by which privacy losses are rounded, for an ε of 1 and less; in proportion above.

    Raises:
        PrivacyError: a number is out of range, or no noise is enough.

    Reference: Abadi et al., "Deep learning with differential privacy", CCS 2016; the accounting: Doroshenko et al., "Connect the dots", PETS 2022.
    """
    _check(units, expected_batch, steps, epsilon, noise_multiplier, delta, clip)
    delta = accountant.default_delta(units) if delta == "auto" else delta
    if noise_multiplier is None:
        assert epsilon is not None
        noise_multiplier = accountant.noise_multiplier_for(
            epsilon, expected_batch / units, steps, delta, interval
        )
    return Mechanism(units, expected_batch, steps, noise_multiplier, clip, clipping, delta, unit)


def _check(
    units: int,
    expected_batch: float,
    steps: int,
    epsilon: float | None,
    noise_multiplier: float | None,
    delta: float | str,
    clip: float | str,
) -> None:
    def refuse(key: str, given: object, wanted: str) -> PrivacyError:
        return PrivacyError(
            "privacy.bad-value", f"{key} = {given} is refused.", where=key, mend=f"Give {wanted}."
        )

    if units < 1:
        raise refuse("units", units, "at least one")
    if not 0 < expected_batch <= units:
        raise refuse(
            "expected_batch", expected_batch, f"a number above 0, and at most the number of units, {units:,}"
        )
    if steps < 1:
        raise refuse("steps", steps, "at least 1")
    if (epsilon is None) == (noise_multiplier is None):
        raise PrivacyError(
            "privacy.one-of-two",
            "Give epsilon or noise_multiplier, and not both.",
            where="privacy.epsilon",
            mend="epsilon says what all steps may cost; noise_multiplier says the noise, and ε follows.",
        )
    if epsilon is not None and not 0 < epsilon < math.inf:
        raise refuse("epsilon", epsilon, "a positive number")
    if noise_multiplier is not None and not 0 <= noise_multiplier < math.inf:
        raise refuse("noise_multiplier", noise_multiplier, "a number of 0 or more")
    if not isinstance(delta, str) and not 0 < delta < 1:
        raise refuse("delta", delta, 'a number between 0 and 1, or "auto"')
    if not isinstance(clip, str) and not 0 < clip < math.inf:
        raise refuse("clip", clip, 'a positive number, or "auto"')
