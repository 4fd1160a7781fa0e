"""The plan as a whole: its fields, its budgets, what fits and what would, and nonsense refused."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shuyuan import recipe as recipes
from shuyuan.errors import DataError, RecipeError, ShuyuanError
from shuyuan.hardware import Rates
from shuyuan.models import TransformerConfig
from shuyuan.planning import plan
from shuyuan.planning.advice import changed
from shuyuan.planning.cost import train_flops_per_token
from shuyuan.sizes import size
from shuyuan.train.resolve import fill_in

from .parts import CPU, GPU, RATES, SMALL_CPU, make_manifest, make_recipe

FIELDS = {
    "parameters", "train_flops", "tokens", "peak_bytes", "seconds", "storage_bytes", "price", "fits", "advice", "privacy",
}  # fmt: skip


def planned(tokens: int = 1_000_000, **tables: Any) -> dict[str, Any]:
    return plan(make_recipe(**tables), CPU, RATES, make_manifest(tokens)).to_json()


def test_the_fields_are_those_of_the_design() -> None:
    found = planned()
    assert set(found) == FIELDS | {
        "items",
        "notes",
        "better",
        "noise",
        "storage_items",
        "exports",
        "lora",
        "host",
        "serving",
        "not_modelled",
        "time_items",
        "scaling",
    }
    for name in ("peak_bytes", "seconds"):
        assert 0 < found[name]["low"] < found[name]["expected"] < found[name]["high"]
    assert found["privacy"] is None and found["price"] is None
    assert found["fits"] is True and found["advice"] == []
    assert sum(found["items"].values()) == found["peak_bytes"]["expected"]
    work = planned(train={"budget": "100 steps"})
    assert sum(work["time_items"].values()) == pytest.approx(work["seconds"]["expected"])
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_parameters_and_operations_are_the_models() -> None:
    recipe = make_recipe(train={"budget": "10 steps", "batch_size": 4}, model={"size": "tiny"})
    config = TransformerConfig.from_recipe(recipe.model, 257, 256)
    found = plan(recipe, CPU, RATES, make_manifest())
    assert found.parameters == config.parameters
    assert found.tokens == 10 * 4 * 256
    assert found.train_flops == found.tokens * train_flops_per_token(config)


@pytest.mark.parametrize(
    ("budget", "tokens"),
    [("10 steps", 20_480), ("50k tokens", 51_200), ("2 epochs", 2_000_896), ("0.5 epochs", 501_760)],
)
def test_a_budget_of_work_gives_the_tokens(budget: str, tokens: int) -> None:
    found = planned(train={"budget": budget, "batch_size": 8})
    assert found["tokens"] == tokens
    assert found["seconds"]["expected"] > 0


def test_a_budget_of_time_is_the_time_and_gives_the_tokens() -> None:
    minute, hour = (planned(30_000_000, train={"budget": budget}) for budget in ("60 s", "1 h"))
    assert minute["seconds"]["expected"] == 60
    assert hour["seconds"]["expected"] == 3600
    assert 40 * minute["tokens"] < hour["tokens"] < 80 * minute["tokens"]
    work = planned(train={"budget": f"{minute['tokens']} tokens"})
    assert work["seconds"]["expected"] == pytest.approx(60, rel=0.1)


def test_a_time_budget_ends_where_few_records_teach_no_more_and_the_plan_says_so() -> None:
    found, asked = planned(train={"budget": "9 h"}), planned(train={"budget": "40 epochs"})
    assert 5.9e6 < found["tokens"] < 6.1e6 and asked["tokens"] > 39e6
    assert "are enough for these records" in " ".join(found["notes"])
    assert "enough" not in " ".join(asked["notes"] + planned(train={"budget": "1 s"})["notes"])


def test_steps_that_stand_rule_over_the_budget() -> None:
    found = planned(train={"budget": "3 h", "steps": 10, "batch_size": 4})
    assert found["tokens"] == 10 * 4 * 256
    assert found["seconds"]["expected"] < 3600


def test_one_step_may_take_longer_than_the_budget() -> None:
    found = planned(model={"size": "large"}, train={"budget": "0.001 s"})
    assert found["seconds"]["expected"] > 0.1
    assert found["tokens"] > 0


def test_a_resolved_recipe_gives_the_same_plan() -> None:
    recipe, manifest = make_recipe(train={"budget": "10 steps"}), make_manifest()
    assert plan(fill_in(recipe, manifest, CPU), CPU, RATES, manifest) == plan(recipe, CPU, RATES, manifest)


def test_without_rates_the_interval_is_wider_and_says_why() -> None:
    recipe = make_recipe(train={"budget": "100 steps"})
    measured, assumed = (plan(recipe, CPU, rates, make_manifest()) for rates in (RATES, None))
    assert assumed.seconds.high / assumed.seconds.low > measured.seconds.high / measured.seconds.low
    assert any("not measured" in note for note in assumed.notes) and measured.notes == []


def test_loss_and_best_size_of_language_models_that_learn_from_nothing() -> None:
    found = planned(train={"budget": "10 steps"})
    best = found["scaling"]["best"]
    assert best["loss"] <= found["scaling"]["loss"]
    assert best["parameters"] * best["tokens"] == pytest.approx(
        found["parameters"] * found["tokens"], rel=0.01
    )
    labelled = make_recipe(
        task="classification",
        data={"source": "notes.csv", "labels": ["a", "b"]},
        train={"budget": "10 steps"},
    )
    manifest = replace(make_manifest(), labels=["a", "b"])
    assert plan(labelled, CPU, RATES, manifest).to_json()["scaling"] is None


def test_a_gpu_is_planned_for() -> None:
    found = plan(make_recipe(model={"size": "large"}), GPU, None, make_manifest(10**9))
    assert found.fits and found.items["CUDA context"] > 0


def test_before_preparation_the_source_is_guessed(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("some words. " * 5000)
    found = plan(recipes.from_table({"data": {"source": str(tmp_path / "notes.txt")}}), CPU, RATES, None)
    assert found.notes and "guessed" in found.notes[0]
    with pytest.raises(DataError):
        plan(recipes.from_table({"data": {"source": str(tmp_path / "none.txt")}}), CPU, RATES, None)


# ---- what fits -----------------------------------------------------------------------------------------------------

HEAVY: dict[str, Any] = {
    "model": {"size": "large", "context": 512},
    "train": {"batch_size": 64, "micro_batch": 64, "precision": "fp32", "budget": "10 steps"},
}


def changes_in(advice: str) -> list[str]:
    """The settings that a sentence of advice spells, as `--set` takes them."""
    return re.findall(r'((?:model|train)\.\w+ = (?:"\w+"|\d+|true))', advice)


def test_what_fits_is_decided_by_the_high_end() -> None:
    found = plan(make_recipe(), CPU, RATES, make_manifest())
    just = replace(CPU, memory_bytes=int(found.peak_bytes.high) + 1)
    assert plan(make_recipe(train={"micro_batch": 8}), just, RATES, make_manifest()).fits
    less = replace(CPU, memory_bytes=int(found.peak_bytes.high) - 1)
    assert not plan(make_recipe(train={"micro_batch": 8}), less, RATES, make_manifest()).fits


@pytest.mark.parametrize("memory_gib", [3, 5, 8, 12, 24])
def test_advice_names_settings_that_then_fit(memory_gib: int) -> None:
    machine = replace(CPU, memory_bytes=memory_gib << 30)
    found = plan(make_recipe(**HEAVY), machine, RATES, make_manifest())
    assert not found.fits
    for advice in found.advice:
        table = make_recipe(**HEAVY).model_dump(by_alias=True, exclude_none=True)
        (change,) = changes_in(advice)
        changed = plan(recipes.from_table(table, [change]), machine, RATES, make_manifest())
        assert changed.fits
        assert size(changed.peak_bytes.expected) in advice


def test_advice_offers_each_kind_of_setting() -> None:
    found = plan(make_recipe(**HEAVY), replace(CPU, memory_bytes=8 << 30), RATES, make_manifest())
    assert [advice.split(" ")[0] for advice in found.advice] == [
        "train.micro_batch",
        "train.activation_checkpointing",
        "model.context",
        "model.size",
    ]


@pytest.mark.parametrize("memory_gib", [3, 5, 8, 12, 24])
@pytest.mark.parametrize("batch_size", [64, 60, 63])
def test_the_micro_batch_advised_is_the_largest_that_fits(memory_gib: int, batch_size: int) -> None:
    def heavy(micro_batch: int) -> Any:
        train = HEAVY["train"] | {"batch_size": batch_size, "micro_batch": micro_batch}
        machine = replace(CPU, memory_bytes=memory_gib << 30)
        return plan(make_recipe(**HEAVY | {"train": train}), machine, RATES, make_manifest())

    divisors = [size for size in range(1, batch_size) if batch_size % size == 0]
    largest = max(size for size in divisors if heavy(size).fits)
    assert heavy(batch_size).advice[0].startswith(f"train.micro_batch = {largest} ")


def test_where_no_single_setting_is_enough_several_are_taken_together() -> None:
    machine = replace(CPU, memory_bytes=700 << 20)
    wide = HEAVY | {"model": {"layers": 64, "width": 4096, "context": 65536}}
    (found,) = plan(make_recipe(**wide), machine, RATES, make_manifest()).better
    assert set(found.change) == {
        "train.micro_batch", "train.activation_checkpointing", "train.precision", "model.context", "model.size", "model.layers",
        "model.width",
    }  # fmt: skip
    together = plan(changed(make_recipe(**wide), found.change), machine, RATES, make_manifest())
    assert found.outcome.fits and together.fits and together.peak_bytes == found.outcome.peak
    (advice,) = plan(make_recipe(**wide), replace(CPU, memory_bytes=10 << 20), RATES, make_manifest()).advice
    assert "still takes" in advice


def test_unknown_memory_refuses_nothing() -> None:
    assert plan(make_recipe(**HEAVY), replace(CPU, memory_bytes=0), RATES, make_manifest()).fits


def test_a_small_machine_gets_a_micro_batch_that_fits() -> None:
    assert plan(make_recipe(), SMALL_CPU, RATES, make_manifest()).fits


# ---- nonsense ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "tables",
    [
        {"model": {"hidden": 10**18}},
        {"model": {"width": 65536, "heads": 512, "layers": 1024, "hidden": 10**9}},
        {"train": {"batch_size": 10**15}},
        {"train": {"batch_size": 10**8, "micro_batch": 1}},
        {"train": {"budget": "9" * 400 + " tokens"}},
        {"train": {"budget": "9" * 30 + " steps"}},
        {"train": {"budget": "9" * 17 + " h"}},
        {"train": {"budget": "9" * 15 + " epochs"}},
        {"train": {"steps": 10**30}},
        {"train": {"evaluations": 10**12}},
        {"model": {"hidden": 10**400}},
        {"train": {"batch_size": 10**400}},
        {"train": {"steps": 10**400}},
    ],
)
def test_nonsense_is_refused_clearly_and_quickly(tables: dict[str, Any]) -> None:
    begun = time.perf_counter()
    for manifest in (make_manifest(), None):
        with pytest.raises(RecipeError) as caught:
            plan(make_recipe(**tables), CPU, RATES, manifest)
        assert caught.value.code.startswith("plan.absurd-") or caught.value.code in (
            "recipe.wrong-type",
            "recipe.bad-value",
        )
        assert any(key in str(caught.value) for key in next(iter(tables.values())))
    assert time.perf_counter() - begun < 2


@pytest.mark.parametrize(
    "tables", [{"model": {"layers": 0}}, {"train": {"steps": 0}}, {"train": {"budget": "0 steps"}}]
)
def test_zero_is_refused(tables: dict[str, Any]) -> None:
    with pytest.raises(RecipeError):
        plan(make_recipe(**tables), CPU, RATES, make_manifest())


@pytest.mark.parametrize("price", [float("nan"), float("inf"), -1.0, 1e300])
def test_a_price_that_is_none_is_refused(price: float) -> None:
    with pytest.raises(RecipeError, match="absurd-price"):
        plan(make_recipe(), CPU, RATES, make_manifest(), hourly_price=price)


ODD = st.one_of(
    st.integers(-5, 5),
    st.integers(10**5, 10**30),
    st.floats(),
    st.text(max_size=9),
    st.just("-5M tokens"),
    st.none(),
)
KEYS = ["model.layers", "model.width", "model.context", "model.heads", "train.batch_size", "train.micro_batch", "train.steps",
        "train.budget", "train.keep", "privacy.epsilon", "data.validation"]  # fmt: skip


@settings(suppress_health_check=[HealthCheck.too_slow], max_examples=60, deadline=None)
@given(st.dictionaries(st.sampled_from(KEYS), ODD, min_size=1, max_size=3), st.floats())
def test_whatever_is_asked_there_is_a_plan_of_finite_numbers_or_a_clear_refusal(
    change: dict[str, Any], price: float
) -> None:
    tables: dict[str, Any] = {"data": {"source": "notes.txt"}, "train": {"budget": "10 steps"}}
    for key, value in change.items():
        table, name = key.split(".")
        tables.setdefault(table, {})[name] = value
    try:
        found = plan(recipes.from_table(tables), CPU, RATES, make_manifest(), hourly_price=price).to_json()
    except ShuyuanError as error:
        assert error.mend and len(str(error)) < 2000
    else:
        json.dumps(found, allow_nan=False)
        assert found["peak_bytes"]["expected"] > 0 and found["seconds"]["expected"] > 0


# ---- no weight -----------------------------------------------------------------------------------------------------


def test_a_plan_loads_no_torch() -> None:
    code = (
        "import sys, shuyuan.recipe as recipes, shuyuan.hardware as machines\n"
        "from shuyuan.planning import plan\n"
        "machine = machines.Hardware('cpu', 'x', 2, 1 << 34, ())\n"
        "recipe = recipes.from_table({'data': {'source': 'stdlib'}})\n"
        "plan(recipe, machine, None, None)\n"
        "print('torch' in sys.modules)"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "False"


def test_the_demo_fits_a_laptop() -> None:
    import shuyuan

    file = Path(shuyuan.__file__).parent / "recipes/demo.toml"
    recipe = recipes.from_table(tomllib.loads(file.read_text()))
    found = plan(recipe, replace(CPU, memory_bytes=4 << 30), RATES, make_manifest(4_000_000, 4096))
    assert found.fits and found.seconds.expected <= 300


@pytest.mark.parametrize("data", [{}, {"validation": "nowhere.txt"}, {"test": "nowhere.txt"}])
def test_a_file_that_is_not_there_is_told_before_the_machine_is_measured(
    tmp_path: Path, data: dict[str, str]
) -> None:
    def measure() -> Rates:
        raise AssertionError("measured")

    (tmp_path / "notes.txt").write_text("one line\n" * 2000)
    table = {"source": "notes.txt" if data else "nowhere.txt"} | data
    recipe = recipes.from_table({"data": {key: str(tmp_path / name) for key, name in table.items()}})
    with pytest.raises(DataError, match=r"nowhere\.txt") as told:
        plan(recipe, CPU, measure, None)
    assert told.value.code == "data.missing"
