"""What would be better: each setting with the figures that it then has, nothing that training cannot do, and the recipe written."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from shuyuan import recipe as recipes
from shuyuan.hardware import Hardware, machines
from shuyuan.models import TransformerConfig
from shuyuan.planning import Plan, plan
from shuyuan.planning.advice import changed
from tests.runs import shuyuan, write_recipe

from .parts import CPU, GPU, RATES, make_manifest, make_recipe

LARGE: dict[str, Any] = {
    "model": {"size": "large", "context": 512},
    "train": {"batch_size": 512, "micro_batch": 512, "budget": "100 steps", "precision": "fp32"},
}
GIB = 2**30


def planned(on: str, **tables: Any) -> Plan:
    there = machines(on)
    return plan(make_recipe(**tables), there.hardware, there.rates, make_manifest(10**9), there)


@pytest.mark.parametrize("memory_gib", [2, 4, 8, 16, 60])
def test_each_setting_has_the_figures_that_its_plan_has(memory_gib: int) -> None:
    machine = replace(CPU, memory_bytes=memory_gib * GIB)
    found = plan(make_recipe(**LARGE), machine, RATES, make_manifest())
    assert not found.fits and found.better
    for advice in found.better:
        after = plan(changed(make_recipe(**LARGE), advice.change), machine, RATES, make_manifest())
        assert (after.peak_bytes, after.seconds) == (advice.outcome.peak, advice.outcome.seconds)
        assert after.fits is advice.outcome.fits is True


@pytest.mark.parametrize("on", ["rtx3090", "v100-16g:2", "l4:4"])
def test_machines_advised_have_the_figures_that_their_plan_has(on: str) -> None:
    wide = {"layers": 32, "width": 4096, "heads": 32, "hidden": 11008, "context": 512}
    tables: dict[str, Any] = {
        "model": wide,
        "train": {"batch_size": 512, "micro_batch": 1, "optimizer": "adamw", "budget": "10 steps"},
    }
    found = planned(on, **tables)
    more = next(advice for advice in found.better if advice.on)
    after = planned(more.on.removeprefix("--on "), **tables)
    assert after.fits and after.peak_bytes == more.outcome.peak and after.seconds == more.outcome.seconds
    assert machines(more.on.removeprefix("--on ")).devices > machines(on).devices
    less = machines(more.on.removeprefix("--on "))
    half = (
        f"{on.split(':')[0]}:{less.nodes}x{less.each // 2}"
        if less.nodes == 1
        else f"{on.split(':')[0]}:{less.nodes // 2}x8"
    )
    assert not planned(half, **tables).fits  # none in between would do


def test_what_leaves_the_result_as_it_is_comes_first() -> None:
    kinds = [next(iter(advice.change), "--on") for advice in planned("rtx3090", **LARGE).better]
    order = [
        "train.micro_batch",
        "train.activation_checkpointing",
        "train.precision",
        "--on",
        "model.context",
        "model.size",
    ]
    assert (
        kinds[0] == "train.micro_batch"
        and "--on" in kinds
        and kinds == [kind for kind in order if kind in kinds]
    )


def test_half_precision_where_the_hardware_has_it() -> None:
    def advised(on: str, **more: Any) -> set[Any]:
        train = LARGE["train"] | {"micro_batch": 8}
        return {
            advice.change.get("train.precision")
            for advice in planned(on, **LARGE | {"train": train} | more).better
        }

    private = {"privacy": {"noise_multiplier": 1.0, "unit": "record"}}
    assert advised("h100") == {"bf16"} and advised("v100-32g") == {"fp16"}
    assert "fp16" not in advised("v100-32g", **private)
    old = Hardware("cpu", "old", 4, 64 * GIB, ("avx2",))
    train = LARGE["train"] | {"micro_batch": 8}
    found = plan(make_recipe(**LARGE | {"train": train}), old, RATES, make_manifest())
    assert not any("train.precision" in advice.change for advice in found.better)


def test_lora_beside_a_model_to_start_from(tmp_path: Path) -> None:
    shape = TransformerConfig(257, 12, 768, 12, 12, 64, 2048, 64)
    (tmp_path / "config.json").write_text(json.dumps(shape.to_hub()))
    train = {"batch_size": 8, "micro_batch": 1, "precision": "fp32", "budget": "10 steps"}
    recipe = make_recipe(
        model={"from": str(tmp_path), "context": 64}, train=train, tokenizer={"kind": "byte"}
    )
    whole = plan(recipe, CPU, RATES, make_manifest())
    lora = plan(changed(recipe, {"train.lora": {"rank": 16}}), CPU, RATES, make_manifest())
    between = replace(CPU, memory_bytes=round((whole.peak_bytes.high + lora.peak_bytes.high) / 2))
    assert lora.peak_bytes.high < whole.peak_bytes.high
    found = plan(recipe, between, RATES, make_manifest())
    assert {"train.lora": {"rank": 16}} in [advice.change for advice in found.better]
    assert not any("model.size" in advice.change for advice in found.better)


@pytest.mark.parametrize("asked", [None, {"rank": 8}, {"rank": 8, "base": "int8"}])
def test_fewer_bits_for_the_base_where_lora_is_not_enough(
    tmp_path: Path, asked: dict[str, Any] | None
) -> None:
    """The nearest that fits, with its figures, which are those of a plan that asks for it."""
    shape = TransformerConfig(257, 24, 2048, 16, 16, 128, 8192, 64)
    (tmp_path / "config.json").write_text(json.dumps(shape.to_hub()))
    train = {"batch_size": 1, "micro_batch": 1, "precision": "bf16", "budget": "10 steps", "lora": asked}
    recipe = make_recipe(
        model={"from": str(tmp_path), "context": 64}, train=train, tokenizer={"kind": "byte"}
    )

    def peak(lora: dict[str, Any]) -> float:
        return plan(changed(recipe, {"train.lora": lora}), GPU, RATES, make_manifest()).peak_bytes.high

    rank = {"rank": asked["rank"] if asked else 16}
    floats, int8, int4 = (peak(rank | base) for base in ({}, {"base": "int8"}, {"base": "int4"}))
    assert floats > int8 > int4
    for room, base in ((floats + int8) / 2, "int8"), ((int8 + int4) / 2, "int4"):
        found = plan(recipe, replace(GPU, memory_bytes=round(room)), RATES, make_manifest())
        changes = {str(advice.change): advice for advice in found.better}
        wanted = {"train.lora": rank | {"base": base}}
        if asked and asked.get("base") == base:
            assert found.fits and not changes
        else:
            assert str(wanted) in changes
            assert changes[str(wanted)].outcome.peak.high == peak(rank | {"base": base})
            assert f"rounded to {base}" in changes[str(wanted)].sentence()


def test_codes_are_not_advised_for_a_model_that_cannot_have_them(tmp_path: Path) -> None:
    table = {
        "model_type": "gpt2",
        "n_embd": 768,
        "n_layer": 12,
        "n_head": 12,
        "vocab_size": 257,
        "n_positions": 64,
    }
    (tmp_path / "config.json").write_text(json.dumps(table))
    train = {
        "batch_size": 1,
        "micro_batch": 1,
        "precision": "fp32",
        "budget": "10 steps",
        "lora": {"rank": 8},
    }
    recipe = make_recipe(
        model={"from": str(tmp_path), "context": 64}, train=train, tokenizer={"kind": "byte"}
    )
    found = plan(recipe, replace(GPU, memory_bytes=600 << 20), RATES, make_manifest())
    assert not found.fits and found.better
    assert not any("base" in str(advice.change) for advice in found.better)


def test_activation_checkpointing_where_it_is_enough_and_away_where_it_is_not_needed() -> None:
    once = LARGE["train"] | {"micro_batch": 64, "batch_size": 64}
    whole, again = (
        plan(
            make_recipe(**LARGE | {"train": once | {"activation_checkpointing": on}}),
            CPU,
            RATES,
            make_manifest(),
        )
        for on in (False, True)
    )
    between = replace(CPU, memory_bytes=round((whole.peak_bytes.high + again.peak_bytes.high) / 2))
    found = plan(make_recipe(**LARGE | {"train": once}), between, RATES, make_manifest())
    change = {"train.activation_checkpointing": True}
    (advice,) = (advice for advice in found.better if advice.change == change)
    assert advice.outcome.peak == again.peak_bytes and advice.outcome.seconds == again.seconds
    assert "computed twice" in advice.sentence()
    roomy = replace(CPU, memory_bytes=100 * GIB)
    waste = plan(
        make_recipe(**LARGE | {"train": once | {"activation_checkpointing": True}}),
        roomy,
        RATES,
        make_manifest(),
    )
    assert {"train.activation_checkpointing": None} in [advice.change for advice in waste.better]
    images = make_recipe(task="classification", model={"family": "cnn"}, data={"source": "digits"})
    assert not any(
        "activation" in str(each.change)
        for each in plan(images, replace(CPU, memory_bytes=1), RATES, None).better
    )


def test_waste_is_told_where_it_is_much() -> None:
    small = LARGE["train"] | {"micro_batch": 1, "precision": "auto"}
    (fuller,) = planned("h100", **LARGE | {"train": small}).better
    assert fuller.change["train.micro_batch"] > 1 and "stays the same" in fuller.sentence()
    before = planned("h100", **LARGE | {"train": small})
    assert fuller.outcome.seconds.expected < 0.9 * before.seconds.expected
    assert planned("h100", **LARGE | {"train": small | {"micro_batch": "auto"}}).better == []


def test_devices_that_wait_for_each_other_are_too_many() -> None:
    tables: dict[str, Any] = {"model": {"size": "tiny"}, "train": {"budget": "100 steps", "batch_size": 64}}
    before = planned("h100:8", **tables)
    (fewer,) = planned("h100:8", **tables).better
    assert fewer.on is not None and fewer.change == {}
    count = machines(fewer.on.removeprefix("--on ")).devices
    assert count * fewer.outcome.seconds.expected < 0.8 * 8 * before.seconds.expected


def test_nothing_is_advised_that_training_cannot_do() -> None:
    keys = {key for key, *_ in recipes.fields()}
    for tables in (
        LARGE,
        {"task": "classification", **LARGE | {"model": {"family": "ngrams", "size": "large"}}},
    ):
        found = plan(make_recipe(**tables), replace(CPU, memory_bytes=GIB), RATES, make_manifest())
        assert all(set(advice.change) <= keys for advice in found.better)


# ---- the command -----------------------------------------------------------------------------------------------------


def heavy(folder: Path) -> Path:
    recipe = write_recipe(folder)
    text = recipe.read_text().replace(
        "layers = 2\nwidth = 32\nheads = 2\nhidden = 64\ncontext = 32",
        '# wide\nsize = "large"\ncontext = 512',
    )
    recipe.write_text(text.replace("batch_size = 4", "batch_size = 512\nmicro_batch = 512 # all at once"))
    return recipe


def test_apply_writes_the_first_setting_and_says_so(tmp_path: Path) -> None:
    recipe = heavy(tmp_path)
    before = recipe.read_text()
    first = shuyuan("plan", recipe, "--on", "rtx3090", "--json").json
    assert not first["fits"]
    applied = shuyuan("plan", recipe, "--on", "rtx3090", "--apply", "--json").json
    (change,) = applied["applied"]["changes"]
    assert change == {
        "key": "train.micro_batch",
        "was": 512,
        "now": first["better"][0]["change"]["train.micro_batch"],
    }
    assert recipe.read_text() == before.replace("micro_batch = 512", f"micro_batch = {change['now']}")
    assert applied["fits"] and applied["peak_bytes"] == first["better"][0]["peak_bytes"]
    again = shuyuan("plan", recipe, "--on", "rtx3090", "--apply")
    if again.status:  # nothing is better any more
        assert "plan.nothing-to-apply" in again.stderr


def test_apply_beside_the_recipe_with_what_was_set(tmp_path: Path) -> None:
    recipe = heavy(tmp_path)
    before = recipe.read_text()
    command = (
        "plan",
        recipe,
        "--on",
        "rtx3090",
        "--apply",
        "--to",
        tmp_path / "better.toml",
        "--set",
        "seed=7",
    )
    told = shuyuan(*command)
    assert told.status == 0 and "train.micro_batch = " in told.stdout and "instead of 512" in told.stdout
    assert recipe.read_text() == before
    found = recipes.load(tmp_path / "better.toml")
    assert found.seed == 7 and isinstance(found.train.micro_batch, int) and found.train.micro_batch < 512
    assert "plan.file-in-use" in shuyuan(*command).stderr


def test_apply_refuses_where_there_is_nothing_to_write(tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path)
    before = recipe.read_text()
    assert "plan.nothing-to-apply" in shuyuan("plan", recipe, "--on", "h100", "--apply").stderr
    assert recipe.read_text() == before
    assert "plan.built-in" in shuyuan("plan", "demo", "--on", "h100", "--apply").stderr


def test_run_names_the_settings_that_would_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from shuyuan import hardware
    from shuyuan.planning import pace

    small = Hardware("cpu", "small", 2, 3 * GIB, ("avx2",))
    monkeypatch.setattr(hardware, "detect", lambda: small)
    monkeypatch.setattr(pace, "measured_rates", lambda *_: RATES)
    refused = shuyuan("run", heavy(tmp_path), "--out", tmp_path / "run")
    assert refused.status == 1 and "plan.does-not-fit" in refused.stderr
    assert "train.micro_batch = " in refused.stderr and "--apply" in refused.stderr
    assert not (tmp_path / "run").exists()
