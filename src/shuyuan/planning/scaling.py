"""Scaling laws: the loss that a model of so many parameters reaches on so many tokens, and the best size for a compute budget.

The law is L = E + A / N^α + B / D^β, in nats a token (Hoffmann et al., "Training compute-optimal large language models", NeurIPS
2022, arXiv 2203.15556), where N counts all parameters and training takes 6·N·D operations. Its constants as Besiroglu et al.
fitted them anew ("Chinchilla scaling: a replication attempt", 2024, arXiv 2404.10102), since the printed ones do not fit the
paper's own data. They are of English web text in 32,000 tokens: other text and other tokenizers have other losses, and
`fitted` finds the constants of one's own runs.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import RunError

FLOPS_A_TOKEN = 6  # times parameters
FEWEST_RUNS = 6  # five constants, and one run to say that they are wrong
HUBER = 1e-3  # of the logarithm's residual, as Hoffmann et al. have it
STARTS = tuple(itertools.product((0.0, 8.0), (0.0, 8.0), (0.0,), (0.2, 0.6), (0.2, 0.6)))
RESAMPLES, CONFIDENCE = 100, 0.9
FACTORS = (1, 10, 100)  # times the largest run, for which the best size is told
CONSTANTS = ("E", "A", "B", "alpha", "beta")
COUNTING_RULE = (
    "Parameters are all of them, embeddings too; tokens are those learned from, repeats included; training takes 6 operations for each "
    "parameter and token. What counts otherwise gets other exponents."
)


@dataclass(frozen=True)
class Law:
    """The five constants.

    Attributes:
        E: the loss that no model and no amount of text gets below, in nats.
        A, alpha: of the part that falls with the parameters.
        B, beta: of the part that falls with the tokens.
    """

    E: float
    A: float
    B: float
    alpha: float
    beta: float

    def loss(self, parameters: float, tokens: float) -> float:
        """Nats a token after training.

        Args:
            parameters: all of them, embeddings too.
            tokens: learned from.
        """
        return float(self.E + self.A / parameters**self.alpha + self.B / tokens**self.beta)

    def best(self, flops: float) -> tuple[float, float]:
        """(parameters, tokens) with the least loss for a compute budget, where 6 · parameters · tokens is all of it.

        Args:
            flops: operations of the whole training.
        """
        pairs = math.log(flops / FLOPS_A_TOKEN)
        ratio = math.log(self.alpha * self.A / (self.beta * self.B))
        log_parameters = (ratio + self.beta * pairs) / (self.alpha + self.beta)
        parameters = math.exp(min(max(log_parameters, 0.0), pairs))  # at least one parameter, and one token
        return parameters, flops / FLOPS_A_TOKEN / parameters


CHINCHILLA = Law(E=1.8172, A=482.01, B=2085.43, alpha=0.3478, beta=0.3658)


OF_WHAT = "English web text in 32,000 tokens"  # that these constants are about


def foreseen(parameters: int, tokens: int) -> dict[str, Any]:
    """The loss of a plan by the published law, and the best size for the same work; as `scaling` of `plan --json` has it.

    Args:
        parameters: all of the plan's model.
        tokens: learned from in all its steps.
    """
    best, length = CHINCHILLA.best(FLOPS_A_TOKEN * parameters * tokens)
    return {
        "loss": CHINCHILLA.loss(parameters, tokens),
        "best": {"parameters": round(best), "tokens": round(length), "loss": CHINCHILLA.loss(best, length)},
        "law": asdict(CHINCHILLA),
        "of": OF_WHAT,
        "counting_rule": COUNTING_RULE,
    }


@dataclass(frozen=True)
class Point:
    """One finished run.

    Attributes:
        parameters: all of them.
        tokens: learned from.
        loss: on held-out records, in nats a token.
    """

    parameters: float
    tokens: float
    loss: float


@dataclass(frozen=True)
class Fit:
    """A law that was fitted, and how sure it is.

    Attributes:
        law: the constants.
        intervals: low and high of each constant, from resampled runs.
        error: the median of |predicted / true loss - 1| over the runs.
        runs: how many there were.
        largest_flops: of the largest of them.
        points: the runs.
        resampled: the laws that the intervals are of.
    """

    law: Law
    intervals: dict[str, tuple[float, float]]
    error: float
    runs: int
    largest_flops: float
    points: tuple[Point, ...] = ()
    resampled: tuple[Law, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """As `plan --fit --json` prints it."""
        constants = {name: getattr(self.law, name) for name in CONSTANTS}
        told = {
            "law": constants,
            "intervals": {name: list(edges) for name, edges in self.intervals.items()},
            "error": self.error,
            "runs": self.runs,
        }
        told |= {
            "counting_rule": COUNTING_RULE,
            "confidence": CONFIDENCE,
            "points": [
                asdict(point) | {"predicted": self.law.loss(point.parameters, point.tokens)}
                for point in self.points
            ],
        }
        return told | {"best": [self._best(factor * self.largest_flops) for factor in FACTORS]}

    def _best(self, flops: float) -> dict[str, Any]:
        parameters, tokens = self.law.best(flops)
        loss = self.law.loss(parameters, tokens)
        told = {"flops": flops, "parameters": round(parameters), "tokens": round(tokens), "loss": loss}
        if not self.resampled:
            return told
        others = [(law.best(flops)[0], law.loss(*law.best(flops))) for law in self.resampled]
        sizes, losses = (_interval([other[place] for other in others]) for place in (0, 1))
        return told | {"parameters_interval": [round(edge) for edge in sizes], "loss_interval": list(losses)}


def _interval(values: Sequence[float]) -> tuple[float, float]:
    """Where so much of them lies as CONFIDENCE says."""
    low, high = np.quantile(values, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2]).tolist()
    return low, high


def fitted(points: Sequence[Point], seed: int = 0) -> Fit:
    """Fits the law to one's own runs.

    Log-sum-exp of the three parts against the logarithm of the loss, Huber's loss, a grid of starts and L-BFGS, as Hoffmann et
    al. do; A and B are fitted as logarithms, since they are badly conditioned.

    Args:
        points: at least six runs on the same records and tokenizer, of at least three sizes and three numbers of tokens.
        seed: of the resampling.

    Raises:
        RunError: there are too few, or they are too much alike.
    """
    sizes, lengths = ({getattr(point, name) for point in points} for name in ("parameters", "tokens"))
    if len(points) < FEWEST_RUNS or min(len(sizes), len(lengths)) < 3:
        raise RunError(
            "plan.too-few-runs",
            f"{len(points)} runs of {len(sizes)} sizes and {len(lengths)} numbers of tokens do not fix a law of five constants.",
            where="--fit",
            mend=f"Give at least {FEWEST_RUNS} runs on the same records, of three sizes and three budgets or more.",
        )
    logs = np.log([(point.parameters, point.tokens, point.loss) for point in points])
    best = min((_solved(logs, start) for start in STARTS), key=lambda found: found[0])[1]
    law = _law(best)
    choose = np.random.default_rng(seed)
    others = [
        _law(_solved(logs[choose.integers(len(logs), size=len(logs))], best)[1]) for _ in range(RESAMPLES)
    ]
    intervals = {name: _interval([getattr(other, name) for other in others]) for name in CONSTANTS}
    errors = [abs(law.loss(point.parameters, point.tokens) / point.loss - 1) for point in points]
    largest = max(FLOPS_A_TOKEN * point.parameters * point.tokens for point in points)
    return Fit(law, intervals, float(np.median(errors)), len(points), largest, tuple(points), tuple(others))


def _law(x: NDArray[np.float64]) -> Law:
    a, b, e, alpha, beta = x.tolist()
    return Law(float(np.exp(e)), float(np.exp(a)), float(np.exp(b)), alpha, beta)


def _solved(
    logs: NDArray[np.float64], start: Sequence[float] | NDArray[np.float64]
) -> tuple[float, NDArray[np.float64]]:
    from scipy.optimize import minimize  # loaded only here: 60 MB

    bounds = [(-5, 40), (-5, 40), (-5, 3), (0.01, 2.5), (0.01, 2.5)]
    found = minimize(_objective, start, args=(logs,), jac=True, method="L-BFGS-B", bounds=bounds)
    return float(found.fun), found.x


def _objective(x: NDArray[np.float64], logs: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
    """Huber's loss of log-sum-exp, and its gradient."""
    a, b, e, alpha, beta = x
    log_n, log_d, log_loss = logs.T
    parts = np.stack([a - alpha * log_n, b - beta * log_d, np.full_like(log_n, e)])
    top = parts.max(0)
    shares = np.exp(parts - top)
    total = shares.sum(0)
    residual = top + np.log(total) - log_loss
    shares /= total
    inside = np.abs(residual) <= HUBER
    value = np.where(inside, residual**2 / 2, HUBER * (np.abs(residual) - HUBER / 2)).sum()
    slope = np.clip(residual, -HUBER, HUBER)
    by_part = shares * slope
    gradient = np.array(
        [
            by_part[0].sum(),
            by_part[1].sum(),
            by_part[2].sum(),
            -(by_part[0] * log_n).sum(),
            -(by_part[1] * log_d).sum(),
        ]
    )
    return float(value) * 1e4, gradient * 1e4  # scaled, so that L-BFGS does not stop too early
