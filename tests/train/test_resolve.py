"""What fills the gaps of a recipe: formulas that never measure, and a calibration that leaves no trace."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from shuyuan.data import ImageFacts, Manifest, Split, TokenizerFacts
from shuyuan.hardware import Hardware
from shuyuan.models import TransformerConfig
from shuyuan.progress import Progress
from shuyuan.recipe import MOST_STEPS, Recipe, Train, from_table
from shuyuan.train import resolve as resolved
from shuyuan.train.rates import choose_learning_rate, lora_rate
from shuyuan.train.resolve import (
    Costs,
    calibrate,
    divisors,
    enough_steps,
    fill_in,
    sequence_bytes,
    stage_seconds,
    steps_within,
    validation_windows,
)

from .parts import CPU, OLD_CPU

GPU = Hardware("cuda", "a test GPU", 8, 80 << 30, ("compute_9.0",))
OLD_GPU = Hardware("cuda", "an old GPU", 8, 16 << 30, ("compute_7.0",))


def manifest(train: int = 1_000_000, validation: int = 50_000) -> Manifest:
    splits = {
        "train": Split(100, 100, train, train * 3, []),
        "validation": Split(10, 10, validation, validation * 3, []),
    }
    return Manifest(
        {name: split for name, split in splits.items() if split.tokens}, 300, TokenizerFacts("byte", "", 256)
    )


def recipe(**train: Any) -> Recipe:
    model = {"layers": 2, "width": 32, "heads": 2, "hidden": 64, "context": 32}
    return from_table({"data": {"source": "stdlib"}, "model": train.pop("model", model), "train": train})


@pytest.fixture
def no_torch_no_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("this must not measure")

    module = sys.modules["shuyuan.train.resolve"]  # its name in the package is the function's
    monkeypatch.setattr(module, "calibrate", refuse)
    monkeypatch.setattr(module, "measured_rates", refuse)
    monkeypatch.setattr("time.perf_counter", refuse)
    monkeypatch.setattr("time.monotonic", refuse)


@pytest.mark.usefixtures("no_torch_no_clock")
@pytest.mark.parametrize("machine", [CPU, OLD_CPU, GPU, OLD_GPU])
def test_everything_but_a_time_budget_follows_by_formula_the_same_each_time(machine: Hardware) -> None:
    asked = recipe(budget="300 steps")
    first = resolved(asked, manifest(), machine, Progress())
    assert first == resolved(asked, manifest(), machine, Progress())
    assert "auto" not in first.train.model_dump().values()
    assert first.train.steps == 300


@pytest.mark.usefixtures("no_torch_no_clock")
def test_what_stands_in_the_recipe_is_not_touched() -> None:
    asked = recipe(
        steps=7,
        batch_size=6,
        micro_batch=3,
        precision="fp16",
        learning_rate=0.5,
        optimizer="adamw",
        budget="2 min",
        weight_decay=0.2,
    )
    assert resolved(asked, manifest(), CPU, Progress()) == asked


@pytest.mark.usefixtures("no_torch_no_clock")
@pytest.mark.parametrize(
    ("budget", "steps"),
    [
        ("5 steps", 5),
        ("64k tokens", 500),
        ("64001 tokens", 501),
        ("1 epochs", 7813),
        ("0.5 epochs", 3907),
        ("1 tokens", 1),
    ],
)
def test_budgets_in_steps_tokens_and_epochs(budget: str, steps: int) -> None:
    assert resolved(recipe(budget=budget, batch_size=4), manifest(), CPU, Progress()).train.steps == steps


@pytest.mark.usefixtures("no_torch_no_clock")
@pytest.mark.parametrize(("unit", "steps"), [("owner", 5), ("record", 50)])
def test_epochs_of_private_records_are_counted_in_units(unit: str, steps: int) -> None:
    """How many units there are is public; how many records an owner has, and how long they are, is not."""
    asked = recipe(budget="1 epochs", batch_size=4).replace(privacy={"epsilon": 8.0, "unit": unit})
    for tokens in (10_000, 1_000_000):
        train = replace(manifest(tokens).splits["train"], records=200, owners=20)
        there = replace(manifest(), splits={"train": train})
        assert resolved(asked, there, CPU, Progress()).train.steps == steps


@pytest.mark.usefixtures("no_torch_no_clock")
def test_few_steps_are_said() -> None:
    progress = Progress()
    resolved(recipe(budget="5 steps"), manifest(), CPU, progress)
    assert "5 steps" in progress.said["train.few-steps"]


@pytest.mark.usefixtures("no_torch_no_clock")
def test_precision_follows_the_hardware() -> None:
    found = [
        resolved(recipe(steps=100), manifest(), machine, Progress()).train.precision
        for machine in (CPU, OLD_CPU, GPU, OLD_GPU)
    ]
    assert found == ["bf16", "fp32", "bf16", "fp16"]


def test_the_batch_is_never_larger_than_the_split() -> None:
    assert fill_in(recipe(), manifest(train=100), CPU).train.batch_size == 3
    assert fill_in(recipe(), manifest(train=5), CPU).train.batch_size == 1


def test_the_batch_is_a_multiple_of_a_given_micro_batch() -> None:
    train = fill_in(recipe(micro_batch=7), manifest(), CPU).train
    assert train.batch_size % 7 == 0  # type: ignore[operator]


@given(
    memory=st.integers(0, 1 << 36), batch_size=st.integers(1, 64), precision=st.sampled_from(["bf16", "fp32"])
)
def test_the_micro_batch_divides_the_batch_and_fits_half_of_the_memory(
    memory: int, batch_size: int, precision: str
) -> None:
    asked = recipe(batch_size=batch_size, precision=precision, model={"size": "small"})
    micro_batch = fill_in(asked, manifest(), replace(CPU, memory_bytes=memory)).train.micro_batch
    assert isinstance(micro_batch, int)
    assert batch_size % micro_batch == 0
    each = sequence_bytes(TransformerConfig.from_recipe(asked.model, 300, 0), precision)
    assert micro_batch == 1 or micro_batch * each <= memory / 2


def test_activation_checkpointing_lets_more_be_computed_at_once() -> None:
    plain, again = (
        fill_in(
            recipe(batch_size=512, model={"size": "small"}, activation_checkpointing=on),
            manifest(),
            replace(CPU, memory_bytes=1 << 30),
        ).train.micro_batch
        for on in (False, True)
    )
    assert isinstance(plain, int) and isinstance(again, int) and plain < again < 512


def test_wider_models_learn_more_slowly() -> None:
    rates = [choose_learning_rate(recipe(), "adamw", width) for width in (128, 256, 512, 768)]
    assert rates == sorted(rates, reverse=True)
    assert 1e-4 < rates[-1] < rates[0] < 0.1


def test_a_model_that_has_learned_before_learns_gently() -> None:
    tuned = recipe(model={"from": "folder"})
    for optimizer in ("adamw", "sgd"):
        assert (
            choose_learning_rate(tuned, optimizer, 384) < choose_learning_rate(recipe(), optimizer, 384) / 5
        )
    adapted = recipe(model={"from": "folder"}, lora={"rank": 4})
    assert choose_learning_rate(adapted, "adamw", 384) > choose_learning_rate(tuned, "adamw", 384)
    private = adapted.replace(privacy={"epsilon": 3.0, "unit": "record"})
    assert choose_learning_rate(private, "adamw", 384) > choose_learning_rate(adapted, "adamw", 384)


def test_the_rate_of_lora_falls_with_width_and_rank() -> None:
    """What was best where we measured it (2 x 128: 4e-3 and not 5e-4), and what others use for large models (1e-4 to 5e-4)."""
    assert 3e-3 < lora_rate(16, 128, private=False) < 6e-3
    assert 1e-4 < lora_rate(16, 8192, private=False) < lora_rate(16, 2048, private=False) < 5.1e-4
    assert (
        lora_rate(1, 512, private=False)
        > lora_rate(16, 512, private=False)
        > lora_rate(64, 512, private=False)
    )
    assert lora_rate(16, 384, private=True) == pytest.approx(3e-3, rel=0.05)


def test_a_huge_batch_is_divided_at_once() -> None:
    begun = time.perf_counter()
    assert divisors(2**24)[:4] == [1, 2, 4, 8]
    assert time.perf_counter() - begun < 1


@given(st.integers(1, 5000))
def test_divisors_are_all_that_divide(number: int) -> None:
    assert divisors(number) == [size for size in range(1, number + 1) if number % size == 0]


def test_what_a_model_to_start_from_needs_is_its_own(tmp_path: Path) -> None:
    """The learning rate follows from the width of the given model, not from the recipe's size, which does nothing."""
    given = TransformerConfig(300, 2, 64, 2, 2, 32, 128, 64)
    (tmp_path / "config.json").write_text(json.dumps(given.to_hub()))
    asked = recipe(model={"from": str(tmp_path), "context": 64}, optimizer="adamw")
    rate = fill_in(asked, manifest(), CPU).train.learning_rate
    assert rate == choose_learning_rate(asked, "adamw", 64)
    adapted = asked.replace(**{"train.lora": {"rank": 4}})
    assert fill_in(adapted, manifest(), CPU).train.learning_rate == lora_rate(4, 64, private=False)
    named = adapted.replace(**{"train.learning_rate": 1e-3})
    assert fill_in(named, manifest(), CPU).train.learning_rate == 1e-3


def test_validation_is_bounded() -> None:
    assert validation_windows(recipe(), manifest()) == 32
    assert validation_windows(recipe(), manifest(validation=65)) == 3
    assert validation_windows(recipe(), manifest(validation=0)) == 0
    assert (
        validation_windows(recipe(model={"size": "tiny", "context": 65_536}), manifest(validation=10**7)) == 1
    )


# ---- time budgets --------------------------------------------------------------------------------------------------


@given(
    seconds=st.floats(1, 1e6),
    step=st.floats(1e-3, 10),
    evaluation=st.floats(0, 10),
    checkpoint=st.floats(0, 10),
    every=st.sampled_from(["1 min", "20 steps"]),
)
def test_the_stage_fills_its_time_and_no_more(
    seconds: float, step: float, evaluation: float, checkpoint: float, every: str
) -> None:
    train, costs = Train(checkpoint_every=every), Costs(step, evaluation, checkpoint)
    steps = steps_within(seconds, train, costs)
    assert steps == 1 or stage_seconds(steps, train, costs) <= seconds
    assert stage_seconds(steps + 1, train, costs) > seconds or steps == int(seconds / step)


def test_a_time_budget_is_calibrated_once_and_becomes_steps() -> None:
    progress = Progress()
    first = resolved(recipe(budget="1 min", precision="fp32", evaluations=3), manifest(), OLD_CPU, progress)
    assert first.train.steps is not None
    assert first.train.steps > 10
    begun = time.perf_counter()
    assert resolved(first, manifest(), OLD_CPU, progress) == first
    assert time.perf_counter() - begun < 0.1


def test_a_time_budget_of_ngrams_ends_where_nothing_more_is_learned() -> None:
    """After four passes, or six hundred steps of few records; what is asked in epochs is done to its end, and short times are kept."""
    enough = {}
    for records in (1_000, 64_000):
        there = replace(labelled(), splits={"train": Split(records, records, 30 * records, 30 * records, [])})
        enough[records] = enough_steps(of_labels(), there)
        assert steps_within(1e6, Train(), Costs(0.01, 0.0, 0.0), enough[records]) == enough[records]
        assert steps_within(2.0, Train(), Costs(0.01, 0.0, 0.0), enough[records]) == 200
    assert enough == {1_000: 600, 64_000: 4_000}


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 10**7), st.integers(1, 256), st.sampled_from(["byte", "char", "bpe"]))
def test_a_time_budget_is_never_more_than_a_few_passes_or_fifty_steps(
    tokens: int, batch_size: int, kind: str
) -> None:
    """A pure function of recipe and data; of private records, which no loss may tell of, and of images there is no end."""
    marks = TokenizerFacts(kind, "", 256)
    there = replace(manifest(), splits={"train": Split(10, 10, tokens, tokens, [])}, tokenizer=marks)
    asked = recipe(batch_size=batch_size)
    few = 6 if kind == "byte" else 4
    steps = enough_steps(asked, there)
    passes = steps * batch_size * asked.model.context / tokens
    assert steps == 50 or few <= passes < few + batch_size * asked.model.context / tokens
    private = asked.replace(privacy={"epsilon": 8.0, "unit": "record"})
    assert enough_steps(private, there) == MOST_STEPS
    images = from_table(
        {
            "task": "classification",
            "data": {"source": "digits"},
            "model": {"family": "cnn", "size": "textbook"},
        }
    )
    assert enough_steps(images, there) == MOST_STEPS


def labelled() -> Manifest:
    return replace(manifest(), labels=["a", "b"])


def of_labels(**model: Any) -> Recipe:
    table = {"data": {"source": "a.csv"}, "task": "sentiment", "model": model, "train": {"batch_size": 64}}
    return from_table(table)


def test_ngrams_are_resolved_by_formula_too() -> None:
    plain = fill_in(of_labels(), labelled(), CPU).train
    assert (plain.optimizer, plain.learning_rate) == ("adamw", 1.8e-3)
    assert fill_in(of_labels(size="large"), labelled(), CPU).train.learning_rate == plain.learning_rate


def test_calibration_leaves_no_trace() -> None:
    ready = fill_in(recipe(budget="1 s"), manifest(), CPU)
    torch.manual_seed(3)
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    calibrate(ready, manifest(), CPU, Progress())
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.get_num_threads() == threads
    assert not torch.are_deterministic_algorithms_enabled()


def test_resolving_without_calibration_loads_no_torch() -> None:
    code = "import sys, shuyuan.train, shuyuan.train.resolve, shuyuan.train.driver; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# ---- images --------------------------------------------------------------------------------------------------------


def pictures(count: int = 50_000) -> Manifest:
    splits = {
        "train": Split(count, count // 5, count, 0, []),
        "validation": Split(5000, 1000, 5000, 0, []),
    }
    return Manifest(splits, 0, None, labels=["a", "b", "c"], image=ImageFacts(28, 28, 1))


def of_images(**tables: Any) -> Recipe:
    table = {"data": {"source": "digits", "labels": ["a", "b", "c"]}, "task": "classification"}
    return from_table(table | {"model": {"family": "cnn"}} | tables)


@pytest.mark.usefixtures("no_torch_no_clock")
@pytest.mark.parametrize("machine", [CPU, GPU])
def test_images_are_resolved_by_formula_too(machine: Hardware) -> None:
    plain = fill_in(of_images(), pictures(), machine).train
    assert (plain.optimizer, plain.batch_size) == ("muon", {"cpu": 128, "cuda": 1024}[machine.device])
    private = fill_in(of_images(privacy={"epsilon": 8.0, "unit": "record"}), pictures(), machine).train
    assert (private.optimizer, private.batch_size) == ("sgd", 1024)
    assert private.micro_batch <= {"cpu": 128, "cuda": 2048}[machine.device]
    for train in (plain, private):
        assert train.learning_rate != "auto" and train.batch_size % train.micro_batch == 0


@pytest.mark.usefixtures("no_torch_no_clock")
@pytest.mark.parametrize(("unit", "batch_size"), [("record", 100), ("owner", 20)])
def test_of_few_units_a_share_is_in_each_step(unit: str, batch_size: int) -> None:
    asked = of_images(
        data={"source": "digits", "labels": ["a", "b", "c"], "owner": "folder"},
        privacy={"epsilon": 8.0, "unit": unit},
    )
    assert fill_in(asked, pictures(800), CPU).train.batch_size == batch_size


@pytest.mark.usefixtures("no_torch_no_clock")
def test_a_batch_that_nothing_divides_is_a_little_smaller() -> None:
    asked = of_images(privacy={"epsilon": 8.0, "unit": "record"})
    train = fill_in(asked, pictures(8 * 179), CPU).train
    assert (train.batch_size, train.micro_batch) == (178, 89)
    given = fill_in(asked.replace(**{"train.batch_size": 179}), pictures(8 * 179), CPU).train
    assert (given.batch_size, given.micro_batch) == (179, 1)


@pytest.mark.parametrize(("budget", "steps"), [("7 steps", 7), ("2 epochs", 1000)])
def test_epochs_of_images_are_counted_in_images(budget: str, steps: int) -> None:
    asked = of_images(train={"budget": budget, "batch_size": 100})
    assert resolved(asked, pictures(), CPU, Progress()).train.steps == steps


def test_a_part_of_the_validation_images_is_measured_each_time() -> None:
    assert validation_windows(of_images(), pictures()) == 512
    few = replace(pictures(), splits={"train": Split(9, 9, 9, 0, []), "validation": Split(7, 7, 7, 0, [])})
    assert validation_windows(of_images(), few) == 7


def test_a_network_for_images_that_has_learned_before_learns_gently() -> None:
    new, known = of_images(), of_images(model={"family": "cnn", "from": "/runs/other"})
    for optimizer in ("muon", "adamw", "sgd"):
        assert choose_learning_rate(known, optimizer, 28) < choose_learning_rate(new, optimizer, 28)


@pytest.mark.parametrize("privacy", [{}, {"privacy": {"epsilon": 8.0, "unit": "record"}}])
def test_a_time_budget_of_images_is_calibrated_on_made_up_pixels(privacy: dict[str, Any]) -> None:
    asked = of_images(
        train={"budget": "30 s", "batch_size": 32, "micro_batch": 16, "evaluations": 1}, **privacy
    )
    found = resolved(asked, pictures(), CPU, Progress())
    assert found.train.steps is not None and found.train.steps > 2


def test_weights_decay_as_fast_as_rates_allow() -> None:
    """Rate times decay is what a step takes off: less than a thousandth, whatever the optimizer."""
    for optimizer in ("muon", "adamw", "sgd"):
        for asked in (recipe(optimizer=optimizer), of_images(train={"optimizer": optimizer})):
            data = pictures() if asked.images else manifest()
            train = fill_in(asked, data, CPU).train
            assert isinstance(train.weight_decay, float) and isinstance(train.learning_rate, float)
            assert 0 < train.weight_decay * train.learning_rate <= 1.5e-3, optimizer
    assert fill_in(recipe(optimizer="sgd", weight_decay=0.2), manifest(), CPU).train.weight_decay == 0.2


def test_private_ngrams_learn_by_sgd() -> None:
    labels = {"source": "a.csv", "labels": ["a", "b"]}
    private = from_table({"data": labels, "task": "sentiment", "privacy": {"epsilon": 8.0, "unit": "record"}})
    train = fill_in(private, labelled(), CPU).train
    assert (train.optimizer, train.learning_rate) == ("sgd", 1.0)
