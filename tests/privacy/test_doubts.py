"""What speaks against private settings is said before training, from public numbers alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from shuyuan.privacy.doubts import LOUD, doubts
from tests.runs import shuyuan, write_recipe

FEW: dict[str, Any] = {"noise_multiplier": 0.7, "expected_batch": 4, "delta": 1e-5, "units": 24}


def codes(learning: int, **changes: Any) -> list[str]:
    guessable = changes.pop("guessable", False)
    return [code for code, _ in doubts({**FEW, **changes}, learning, guessable=guessable)]


def test_noise_that_drowns_the_gradients_is_told_by_their_lengths() -> None:
    ((code, text),) = doubts(FEW, 837_376)
    assert code == "privacy.loud-noise" and "about 160 times" in text and "its 4 units" in text
    assert codes(14_000) == []
    assert codes(837_376, expected_batch=48) == []
    learned, guessed = (
        (times * 4 / 0.7) ** 2 for times in (28, 57)
    )  # runs that were made: docs/lab-notes.md
    assert codes(int(learned)) == [] and codes(int(guessed)) == ["privacy.loud-noise"]
    edge = (LOUD * 4 / 0.7) ** 2
    assert codes(int(edge * 0.99)) == [] and codes(int(edge * 1.01)) == ["privacy.loud-noise"]


@pytest.mark.parametrize(("delta", "said"), [(1 / 24, True), (0.5, True), (1 / 25, False), (1e-5, False)])
def test_a_delta_that_would_let_a_whole_unit_go_is_told(delta: float, said: bool) -> None:
    assert codes(100, delta=delta) == ["privacy.large-delta"] * said


def test_a_seed_that_others_can_guess_is_told() -> None:
    assert codes(100, guessable=True) == ["privacy.insecure-seed"]


def test_a_plan_and_a_run_say_so_before_the_first_step(tmp_path: Path) -> None:
    private = 'unit = "record"\nnoise_multiplier = 50.0\ndelta = 0.5\ninsecure_seed = 1'
    recipe = write_recipe(tmp_path, privacy=private)
    for verb in (("plan",), ("run", "--out", tmp_path / "run")):
        told = shuyuan(verb[0], recipe, *verb[1:]).stderr
        for words in (
            "times as long as the clipped gradients",
            "no less than one over",
            "a test, and no protection",
        ):
            assert told.count(words) == 1
            assert told.find(words) < (told.find("train: ") if verb[0] == "run" else len(told))
