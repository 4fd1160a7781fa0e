"""The checker of `private_gradient` accepts every right way and names many more mistakes than the shipped variants."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from shuyuan.handbook import QUESTIONS

FOLDER = QUESTIONS / "safety-and-privacy"
SOLUTION = (FOLDER / "solution.py").read_text(encoding="utf-8")


class NamedError(Exception):
    pass


@pytest.fixture(scope="module")
def checker() -> Iterator[ModuleType]:
    spec = importlib.util.spec_from_file_location("safety_and_privacy_check", FOLDER / "check.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    threads = module.torch.get_num_threads()
    module.torch.set_num_threads(1)  # as in the grader: threads only get in each other's way here
    yield module
    module.torch.set_num_threads(threads)


def hint_for(checker: ModuleType, *changes: tuple[str, str]) -> str | None:
    """The hint that the solution gets after the changes, or None if it passes."""
    source = SOLUTION
    for old, new in changes:
        assert source.count(old) == 1, old
        source = source.replace(old, new)
    space: dict[str, Any] = {}
    exec(compile(source, "answer.py", "exec"), space)

    def wrong(hint: str, **_: object) -> None:
        raise NamedError(hint)

    try:
        checker.check(SimpleNamespace(private_gradient=space["private_gradient"]), wrong)
    except NamedError as named:
        return str(named)
    return None


SUM = "sum_P = (factors_U[:, None] * units_UP).sum(0)"
NOISE = "noise_P = torch.randn(len(sum_P), generator=generator) * deviation"
BOTH = "(sum_P + noise_P) / expected_units"
MADE = "return [part.view(shape) for part, shape in pairs]"

MATRIX_PRODUCT = [(SUM, "sum_P = factors_U @ units_UP")]
NORMAL = [("torch.randn(len(sum_P), generator=generator) * deviation",
           "torch.empty(len(sum_P)).normal_(0.0, deviation, generator=generator)")]  # fmt: skip
DIVIDED_APART = [(BOTH, "sum_P / expected_units + noise_P / expected_units")]
IN_A_TUPLE = [(MADE, MADE.replace("[", "tuple(").replace("]", ")"))]


@pytest.mark.parametrize(
    "changes",
    [[], MATRIX_PRODUCT, NORMAL, DIVIDED_APART, IN_A_TUPLE],
    ids=["solution", "product", "normal", "apart", "tuple"],
)
def test_right_ways_pass(checker: ModuleType, changes: list[tuple[str, str]]) -> None:
    assert hint_for(checker, *changes) is None


MISTAKES = {
    "return-type": [(MADE, "return private_P")],
    "shape": [("part.view(shape)", "part")],
    "became-infinite": [(BOTH, "(sum_P + noise_P) / 0")],
    "changes-arguments": [("    shapes = ", "    gradients[0].zero_()\n    shapes = ")],
    "not-clipped": [("factors_U[:, None] * units_UP", "units_UP")],
    "clip-enlarges": [("norms_U.nan_to_num(0.0).clamp(min=clip)", "norms_U.nan_to_num(0.0)")],
    "not-divided": [(BOTH, "sum_P + noise_P / expected_units")],
    "realised-batch": [(BOTH, "sum_P / max(1, len(owners_N)) + noise_P / expected_units")],
    "divided-twice": [(SUM, "sum_P = (factors_U[:, None] * units_UP).sum(0) / expected_units")],
    "clips-the-batch": [(SUM, "sum_P = units_UP.sum(0)\n    sum_P = sum_P * (clip / sum_P.norm().clamp(min=clip))")],
    "clips-each-record": [("torch.unique(owners_N, return_inverse=True)", "torch.unique(torch.arange(len(owners_N)), return_inverse=True)")],
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
    "empty-batch-fails": [("gradient.flatten(1)", "gradient.reshape(len(gradient), -1)")],
    "empty-batch-noise": [(BOTH, "(sum_P + noise_P * bool(len(owners))) / expected_units")],
    "one-infinite-unit": [("    units_UP[~norms_U.isfinite()] = 0.0\n", "")],
}  # fmt: skip


@pytest.mark.parametrize("hint", MISTAKES)
def test_mistakes_are_named(checker: ModuleType, hint: str) -> None:
    assert hint_for(checker, *MISTAKES[hint]) == hint


@pytest.mark.parametrize(
    ("from_where", "hint"),
    [("generator", None), ("generator.manual_seed(generator.initial_seed())", "same-noise")],
    ids=["goes on", "begins again"],
)
def test_noise_may_be_drawn_one_parameter_at_a_time_but_not_twice_the_same(
    checker: ModuleType, from_where: str, hint: str | None
) -> None:
    drawn = "torch.cat([torch.randn(gradient.shape[1:], generator=FROM).flatten() for gradient in gradients])"
    drawn = drawn.replace("FROM", from_where)
    change = (NOISE, NOISE.replace("torch.randn(len(sum_P), generator=generator)", drawn))
    assert hint_for(checker, change) == hint
