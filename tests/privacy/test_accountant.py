"""ε is never told too small, and is what others have computed for the same mechanism."""

from __future__ import annotations

import math

import pytest

from shuyuan.errors import PrivacyError
from shuyuan.privacy import accountant
from shuyuan.privacy.accountant import default_delta, epsilon, noise_multiplier_for

# (sampling rate, noise multiplier, steps, δ, ε): exact ones from an independent FFT of the privacy loss, or TensorFlow
# Privacy's PLD test. ../shared/reference of the development tree names their sources; none may be undercut.
EXACT = [
    (0.01, 0.7, 120, 1e-5, 2.461237),
    (0.0064, 1.0, 782, 1e-6, 1.1986),
    (0.04, 1.5, 2249, 1e-5, 6.76705),
    (0.05, 2.0, 1000, 1e-6, 4.16261),
    (0.001, 0.8, 1000, 1e-6, 0.46758),
    (0.05, 1.5, 100, 1e-6, 1.94374),
    (0.001, 1.5, 20000, 1e-6, 0.42725),
    (0.001, 3.0, 50000, 1e-6, 0.30076),
]
# The upper bounds that Opacus' PRV accountant tells, about 0.01 above the truth; and the older RDP bounds.
BOUNDS = [
    (0.04, 1.5, 2249, 1e-5, 6.7773957),
    (0.05, 2.0, 1000, 1e-6, 4.172800),
    (0.01, 0.7, 120, 1e-5, 3.2392676),
    (0.0025, 1.3, 6000, 1e-5, 0.7242234),
    (0.04, 1.5, 2250, 1e-5, 7.3291112),
]
TOLD = 5e-6  # digits of the values above


@pytest.mark.parametrize(("rate", "noise", "steps", "delta", "wanted"), EXACT)
def test_epsilon_is_exact_and_never_too_small(
    rate: float, noise: float, steps: int, delta: float, wanted: float
) -> None:
    found = epsilon(noise, rate, steps, delta)
    assert found >= wanted * (1 - TOLD)
    assert found <= wanted * 1.005


@pytest.mark.parametrize(("rate", "noise", "steps", "delta", "bound"), BOUNDS)
def test_epsilon_is_below_looser_bounds(
    rate: float, noise: float, steps: int, delta: float, bound: float
) -> None:
    assert epsilon(noise, rate, steps, delta) <= bound


def test_one_step_of_every_unit_is_the_plain_gaussian_mechanism() -> None:
    """Balle and Wang, ICML 2018: δ = Φ(1/2σ - εσ) - e^ε Φ(-1/2σ - εσ), for sensitivity 1."""
    noise, delta = 2.0, 1e-5
    found = epsilon(noise, 1.0, 1, delta)

    def phi(x: float) -> float:
        return math.erfc(-x / math.sqrt(2)) / 2

    exact = phi(1 / (2 * noise) - found * noise) - math.exp(found) * phi(-1 / (2 * noise) - found * noise)
    assert exact <= delta * (1 + 1e-6)
    assert exact >= delta * 0.99


def test_no_noise_is_no_privacy_and_no_step_costs_nothing() -> None:
    assert epsilon(0.0, 0.1, 1, 1e-5) == math.inf
    assert epsilon(1.0, 0.1, 0, 1e-5) == 0


def test_a_coarser_search_tells_more_and_not_less() -> None:
    assert epsilon(1.0, 0.01, 500, 1e-5, 1e-3) >= epsilon(1.0, 0.01, 500, 1e-5)


@pytest.mark.parametrize(
    ("target", "rate", "steps"), [(8.0, 0.02, 800), (3.0, 0.05, 300), (0.5, 0.01, 200), (1.0, 1.0, 1)]
)
def test_the_noise_for_an_epsilon_keeps_to_it_and_wastes_little(
    target: float, rate: float, steps: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[float] = []
    monkeypatch.setattr(
        accountant, "epsilon", lambda noise, *others: looks.append(noise) or epsilon(noise, *others)
    )
    noise = noise_multiplier_for(target, rate, steps, 1e-5)
    assert epsilon(noise, rate, steps, 1e-5) <= target < epsilon(noise / 1.002, rate, steps, 1e-5)
    assert len(looks) <= 6  # each takes a quarter of a second


@pytest.mark.parametrize(("rate", "steps"), [(0.01, 100), (0.01, 1000), (0.5, 1)])
@pytest.mark.parametrize("target", [0.001, 0.01, 0.1])
def test_a_small_epsilon_is_not_wasted_on_rounding(target: float, rate: float, steps: int) -> None:
    """Beside losses that are rounded a thousandth as coarsely, which costs seconds, the noise found spends what it may."""
    from dp_accounting.pld import PLDAccountant

    noise = noise_multiplier_for(target, rate, steps, 1e-5)
    exact = PLDAccountant(accountant._neighbours(), target * 1e-4)
    spent = float(exact.compose(accountant._event(noise, rate, steps)).get_epsilon(1e-5))
    assert 0.985 * target <= spent <= target * (1 + 1e-4)


def test_what_no_noise_can_reach_is_refused() -> None:
    with pytest.raises(PrivacyError, match="No noise"):
        noise_multiplier_for(1e-6, 1.0, 10**6, 1e-9)


@pytest.mark.parametrize(("units", "delta"), [(5, 1e-5), (9_999, 1e-5), (10_000, 1e-5), (1_000_000, 1e-7)])
def test_the_default_delta(units: int, delta: float) -> None:
    assert default_delta(units) == pytest.approx(delta)
