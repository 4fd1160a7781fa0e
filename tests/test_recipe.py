"""A recipe is checked before any work: each thing wrong is named, with the way to mend it."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shuyuan import recipe as recipes
from shuyuan.errors import RecipeError
from shuyuan.recipe import Budget

SMALL: dict[str, Any] = {"data": {"source": "/data/notes.txt"}}
PRIVATE = {"epsilon": 8.0, "unit": "record"}
DIGITS: dict[str, Any] = {"data": {"source": "digits"}, "task": "classification", "model": {"family": "cnn"}}


def refusal(table: dict[str, Any], *changes: str) -> RecipeError:
    with pytest.raises(RecipeError) as caught:
        recipes.from_table(table, list(changes))
    return caught.value


@pytest.mark.parametrize(
    ("table", "code", "names", "mends"),
    [
        ({"data": {"sorce": "a"}}, "recipe.unknown-key", "data.sorce", "data.source"),
        ({**SMALL, "budget": "2 min"}, "recipe.unknown-key", "budget", "train.budget"),
        ({**SMALL, "trian": {}}, "recipe.unknown-key", "trian", "train"),
        ({**SMALL, "train": {"zzz": 1}}, "recipe.unknown-key", "train.zzz", "budget"),
        ({}, "recipe.missing-key", "data", "records come from"),
        ({"data": {}}, "recipe.missing-key", "data.source", "File, folder"),
        ({**SMALL, "seed": "1"}, "recipe.wrong-type", "seed", "random choice"),
        ({**SMALL, "seed": 1.5}, "recipe.wrong-type", "seed", "random choice"),
        ({**SMALL, "data": "notes.txt"}, "recipe.wrong-type", "data", "records come from"),
        ({**SMALL, "train": {"schedule": "cosin"}}, "recipe.bad-value", "train.schedule", "cosine"),
        ({**SMALL, "train": {"budget": "2 parsecs"}}, "recipe.bad-value", "train.budget", "2 min"),
        ({**SMALL, "train": {"budget": "0 s"}}, "recipe.bad-value", "train.budget", "positive"),
        (
            {**SMALL, "train": {"checkpoint_every": "3 epochs"}},
            "recipe.bad-value",
            "checkpoint_every",
            "20 steps",
        ),
        ({**SMALL, "train": {"learning_rate": float("nan")}}, "recipe.bad-value", "learning_rate", "above 0"),
        ({**SMALL, "vault": {"key": "hunter2"}}, "recipe.bad-value", "vault.key", "never the key itself"),
        ({**SMALL, "task": "chatting"}, "recipe.bad-value", "task", "generation"),
        (
            {"data": {"source": "a", "validation": 5.0}},
            "recipe.bad-value",
            "data.validation",
            "between 0 and 0.9",
        ),
        ({"data": {"source": "a", "mask": ["emial"]}}, "recipe.bad-value", "data.mask", "email"),
        ({"data": {"source": []}}, "recipe.bad-value", "data.source", "no file"),
        ({**SMALL, "name": "../x"}, "recipe.wrong-type", "name", "runs/NAME"),
        ({**DIGITS, "model": {"family": "cnn", "size": "large"}}, "recipe.bad-value", "model.size", "cnn"),
        ({**SMALL, "model": {"size": "textbook"}}, "recipe.bad-value", "model.size", "transformer"),
        (
            {**DIGITS, "model": {"family": "cnn", "context": 64}},
            "recipe.bad-value",
            "model.context",
            "no such thing",
        ),
        (
            {**DIGITS, "model": {"family": "cnn", "heads": 4}},
            "recipe.bad-value",
            "model.heads",
            "no such thing",
        ),
        ({**DIGITS, "train": {"augment": ["flipp"]}}, "recipe.bad-value", "train.augment", "flip"),
        ({**DIGITS, "train": {"budget": "5M tokens"}}, "recipe.bad-value", "train.budget", "3 epochs"),
        ({**SMALL, "train": {"augment": ["flip"]}}, "recipe.bad-value", "train.augment", "reads no images"),
        (
            {**DIGITS, "model": {"family": "cnn", "from": "a"}, "train": {"lora": {}}},
            "recipe.bad-value",
            "train.lora",
            "trained whole",
        ),
        ({**SMALL, "evaluate": {"tasks": ["x"]}}, "recipe.unavailable", "evaluate", "Take the key out"),
        ({**SMALL, "train": {"lora": {"rank": 16}}}, "recipe.bad-value", "train.lora", "Change `train.lora`"),
        ({**SMALL, "train": {"lora": True}}, "recipe.wrong-type", "train.lora", "a table"),
        (
            {**SMALL, "model": {"width": 100, "heads": 3}},
            "recipe.bad-value",
            "model.heads",
            "Attention heads",
        ),
        ({**SMALL, "privacy": {"epsilon": 1.0}}, "recipe.bad-value", "privacy.unit", "What is protected"),
    ],
)
def test_what_is_wrong_is_named_and_mended(table: dict[str, Any], code: str, names: str, mends: str) -> None:
    error = refusal(table)
    assert error.code == code
    assert names in error.what
    assert mends in f"{error.what} {error.mend}"


@pytest.mark.parametrize(
    ("section", "key"),
    [
        ({"train": {"batch_size": 6, "micro_batch": 4}}, "train.micro_batch"),
        ({"train": {"warmup": 0.7, "decay": 0.6}}, "train.decay"),
        ({"train": {"schedule": "plateau", "evaluations": 0}}, "train.evaluations"),
        ({"model": {"width": 256, "heads": 3}}, "model.heads"),
        ({"model": {"width": 256, "heads": 4, "kv_heads": 3}}, "model.kv_heads"),
        ({"model": {"width": 12, "heads": 4}}, "model.heads"),
        ({"data": {"source": "a", "validation": 0.6, "test": 0.6}}, "data.test"),
        ({"report": {"tensorboard": True}, "vault": {"key": "env:K"}}, "report.tensorboard"),
        ({"privacy": {"epsilon": 3.0, "noise_multiplier": 1.0, "unit": "record"}}, "privacy.epsilon"),
        ({"privacy": {"unit": "record"}}, "privacy.epsilon"),
    ],
)
def test_contradictions_name_the_key(section: dict[str, Any], key: str) -> None:
    error = refusal({**SMALL, **section})
    assert error.code == "recipe.bad-value"
    assert key in error.what


def test_a_table_for_further_tasks_that_asks_for_none_is_taken() -> None:
    assert recipes.from_table({**SMALL, "evaluate": {}}) == recipes.from_table(SMALL)


@pytest.mark.parametrize(
    ("tables", "keys"),
    [
        ({"tokenizer": {"vocab_size": 512}}, "tokenizer.vocab_size"),
        ({"tokenizer": {"kind": "bpe", "from": "t.json"}}, "tokenizer.kind"),
        ({"model": {"from": "base", "width": 64, "size": "large"}}, "model.size and model.width"),
        ({"model": {"size": "large", "layers": 2, "width": 64}}, "model.size"),
        ({"train": {"schedule": "cosine", "decay": 0.2}}, "train.decay"),
        ({"train": {"steps": 5, "budget": "3 steps"}}, "train.budget"),
        ({"report": {"open": True}}, "report.open"),
        ({"train": {"grad_clip": 0.5}, "privacy": PRIVATE}, "train.grad_clip"),
        ({"privacy": {**PRIVATE, "records_per_unit": 2}}, "privacy.records_per_unit"),
        ({"privacy": {**PRIVATE, "allow": ["plateau"]}}, '"plateau" in privacy.allow'),
    ],
)
def test_a_setting_without_effect_is_named(tables: dict[str, Any], keys: str) -> None:
    said = recipes.idle(recipes.from_table({**SMALL, **tables}))
    assert [each.partition(" do")[0] for each in said] == [keys]


@pytest.mark.parametrize(
    "tables",
    [
        {},
        {"tokenizer": {"kind": "bpe", "vocab_size": 512}},
        {"model": {"size": "large", "layers": 2}},
        {"train": {"decay": 0.2, "budget": "3 steps", "grad_clip": 0.5}},
        {"report": {"open": True}, "vault": {"key": "env:K"}},
        {"privacy": {**PRIVATE, "allow": ["plateau", "scores"]}, "train": {"schedule": "plateau"}},
        {"train": {"steps": 5, "budget": "3 steps"}, "resolved": {"date": "2026-11-27"}},
    ],
)
def test_settings_that_are_obeyed_are_not(tables: dict[str, Any]) -> None:
    assert recipes.idle(recipes.from_table({**SMALL, **tables})) == []


def test_the_resolved_recipe_reads_back_as_itself() -> None:
    table = {
        **SMALL,
        "vault": {"key": "env:KEY"},
        "model": {"from": "/models/a"},
        "tokenizer": {"from": "/t.json"},
    }
    recipe = recipes.from_table(table)
    assert recipes.from_table(tomllib.loads(recipe.as_toml())) == recipe


@pytest.mark.parametrize("key", [key for key, kind, *_ in recipes.fields() if kind != "table"])
def test_every_key_has_a_description(key: str) -> None:
    described = {name: text for name, _, _, text in recipes.fields()}
    assert len(described[key]) > 15


def test_keys_stand_under_their_own_table() -> None:
    """As in TOML: what follows a table's head belongs to it."""
    table = ""
    for key, kind, *_ in recipes.fields():
        table = key + "." if kind == "table" else table
        assert kind == "table" or key.rpartition(".")[0] == table.removesuffix(".")
        assert kind.strip() and "|  |" not in kind


def test_changes_are_laid_over_the_file(tmp_path: Path) -> None:
    file = tmp_path / "a b.toml"
    file.write_text('[data]\nsource = "notes.txt"\n[train]\nbudget = "1 min"\n', encoding="utf-8")
    recipe = recipes.load(file, ['train.budget="5M tokens"', "train.schedule=cosine", "seed=7"])
    assert (recipe.train.budget, recipe.train.schedule, recipe.seed) == ("5M tokens", "cosine", 7)
    assert recipe.name == "a-b"
    assert recipe.data.source == str(tmp_path / "notes.txt"), (
        "a path in a recipe starts at the recipe's folder"
    )


def test_changed_paths_start_where_the_user_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    (tmp_path / "r.toml").write_text('[data]\nsource = "a.txt"\n', encoding="utf-8")
    assert recipes.load(tmp_path / "r.toml", ["data.source=b.txt"]).data.source == str(
        tmp_path / "here" / "b.txt"
    )


def test_built_in_and_remote_sources_are_no_paths() -> None:
    for source in ("stdlib", "hf:org/name"):
        assert recipes.from_table({"data": {"source": source}}).data.source == source


@pytest.mark.parametrize("change", ["train.budget", "=3", "data.source.x=1"])
def test_bad_changes_are_refused(change: str) -> None:
    refusal(SMALL, change)


@pytest.mark.parametrize(
    ("content", "code"),
    [(b"a = = 1", "recipe.not-toml"), (b"\xff\xfe\x00", "recipe.unreadable"), (None, "recipe.missing")],
)
def test_files_that_are_no_recipe(tmp_path: Path, content: bytes | None, code: str) -> None:
    file = tmp_path / "r.toml"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(RecipeError) as caught:
        recipes.load(file)
    assert caught.value.code == code
    assert caught.value.where == str(file)


def test_records_given_as_a_recipe_are_told_how_to_be_one(tmp_path: Path) -> None:
    (tmp_path / "notes.jsonl").write_text('{"text": "a"}\n', encoding="utf-8")
    with pytest.raises(RecipeError) as caught:
        recipes.load(tmp_path / "notes.jsonl")
    assert '[data] and source = "notes.jsonl"' in caught.value.mend


def test_differences_name_each_key() -> None:
    old = recipes.from_table({**SMALL, "data": {"source": "/a", "owner": "who"}, "vault": {"key": "env:K"}})
    new = recipes.from_table({**SMALL, "data": {"source": "/a"}, "seed": 2})
    keys = [line.partition(":")[0] for line in recipes.differences(old, new)]
    assert keys == ["data.owner", "seed", "vault.key"]


def test_what_was_filled_in_is_no_difference() -> None:
    asked = recipes.from_table(SMALL)
    filled = {
        "train.steps": 300,
        "train.batch_size": 16,
        "train.precision": "bf16",
        "resolved": {"date": "2026"},
    }
    assert recipes.differences(asked.replace(**filled), asked) == []
    assert recipes.differences(asked.replace(**filled), asked.replace(**{"train.steps": 301})) != []


@given(
    st.integers(1, 10**6),
    st.sampled_from(["s", " s", " min", " h", " steps", " step", "k steps", "M tokens", " epochs"]),
)
def test_budgets_read(number: int, unit: str) -> None:
    budget = Budget.parse(f"{number}{unit}")
    scale = {"s": 1, "min": 60, "h": 3600}.get(unit.strip(), {"k": 1000, "M": 10**6}.get(unit[0], 1))
    assert budget.amount == pytest.approx(number * scale)


@given(st.text(max_size=12))
def test_no_text_crashes_the_budget(text: str) -> None:
    try:
        assert Budget.parse(text).amount > 0
    except ValueError as error:
        assert "positive amount" in str(error)


def test_a_network_for_images_starts_from_another_without_a_tokenizer() -> None:
    recipe = recipes.from_table({**DIGITS, "model": {"family": "cnn", "from": "/runs/other"}})
    assert recipe.tokenizer == recipes.Tokenizer() and recipe.images
    assert recipes.from_table(tomllib.loads(recipe.as_toml())) == recipe


RNN: dict[str, Any] = {"family": "rnn"}
LABELLED: dict[str, Any] = {"task": "sentiment", "data": {"source": "/data/notes.csv"}}


@pytest.mark.parametrize(
    ("table", "key"),
    [
        ({**SMALL, "model": {"cell": "gru"}}, "model.cell"),
        ({**SMALL, "model": {"dropout": 0.1}}, "model.dropout"),
        ({**SMALL, "model": {**RNN, "heads": 2}}, "model.heads"),
        ({**SMALL, "model": {**RNN, "tied": True}}, "model.tied"),
        ({**SMALL, "model": {**RNN, "from": "a.keras", "width": 64}}, "model.width"),
        ({**SMALL, "model": {**RNN, "bidirectional": True}}, "model.bidirectional"),
        ({**LABELLED, "model": {**RNN, "predict": "last"}}, "model.predict"),
        ({**SMALL, "model": {**RNN, "from": "a.keras"}, "train": {"lora": {"rank": 4}}}, "train.lora"),
        ({**SMALL, "model": RNN, "train": {"precision": "fp16"}}, "train.precision"),
        ({**SMALL, "model": RNN, "train": {"optimizer": "muon"}}, "train.optimizer"),
        ({**SMALL, "model": RNN, "train": {"batch_size": 8, "micro_batch": 4}}, "train.micro_batch"),
        ({**SMALL, "model": {**RNN, "predict": "last"}, "privacy": {"epsilon": 3.0, "unit": "record"}}, "privacy"),
        ({**SMALL, "model": {**RNN, "predict": "last"}, "audit": {"canaries": 10}}, "audit.canaries"),
    ],
)  # fmt: skip
def test_a_key_that_means_nothing_for_the_family_is_refused_by_name(table: dict[str, Any], key: str) -> None:
    error = refusal(table)
    assert error.code == "recipe.bad-value" and f"`{key}`" in error.what


def test_a_recurrent_model_has_sizes_of_its_own() -> None:
    model = recipes.from_table({**SMALL, "model": {**RNN, "size": "medium", "cell": "gru"}}).model
    assert model.shape() == {"layers": 2, "width": 512}
    again = recipes.check(tomllib.loads(recipes.from_table({**SMALL, "model": RNN}).as_toml()), where="a run")
    assert again.model.cell is None and again.model.tied is None


def test_a_keras_file_brings_no_tokenizer() -> None:
    recipe = recipes.from_table({**SMALL, "model": {**RNN, "from": "/data/mine.keras"}})
    assert recipe.tokenizer.from_ is None


@pytest.mark.parametrize("task", ["sentiment", "classification"])
def test_texts_with_labels_get_the_family_that_tells_them_apart(task: str) -> None:
    """From two lines; what they left out stands in the resolved recipe, and reads back as itself."""
    recipe = recipes.from_table({"task": task, **SMALL})
    assert (recipe.model.family, recipe.model.longest, recipe.model.context) == ("ngrams", 6, 1024)
    assert recipes.check(tomllib.loads(recipe.as_toml()), where="a run") == recipe
    assert recipes.from_table({**SMALL}).model.family == "transformer"
    assert recipes.from_table({**LABELLED, "model": {"family": "ngrams", "from": "/a"}}).model.longest is None


@pytest.mark.parametrize(
    ("tokenizer", "longest"),
    [({"kind": "char"}, 4), ({"kind": "bpe"}, 2), ({"from": "/a/tokenizer.json"}, 2)],
)
def test_the_longest_ngram_follows_the_tokens(tokenizer: dict[str, Any], longest: int) -> None:
    table = {**LABELLED, "tokenizer": tokenizer}
    assert recipes.from_table(table).model.longest == longest
    assert recipes.from_table({**table, "model": {"longest": 3}}).model.longest == 3


@pytest.mark.parametrize(
    "model", [{"family": "transformer"}, {"from": "/a/model"}, {"layers": 2}, {"heads": 2}]
)
def test_a_transformer_that_is_asked_for_is_one(model: dict[str, Any]) -> None:
    recipe = recipes.from_table({**LABELLED, "model": model})
    assert recipe.model.family == "transformer" and recipe.model.context == 256


@pytest.mark.parametrize(
    ("table", "key"),
    [
        ({**SMALL, "model": {"family": "ngrams"}}, "model.family"),
        ({**LABELLED, "model": {"family": "ngrams", "layers": 2}}, "model.layers"),
        ({**LABELLED, "model": {"family": "transformer", "longest": 2}}, "model.longest"),
        ({**LABELLED, "model": {"family": "ngrams", "from": "/a", "longest": 2}}, "model.longest"),
        ({**LABELLED, "train": {"optimizer": "muon"}}, "train.optimizer"),
        ({**LABELLED, "model": {"family": "ngrams", "from": "/a"}, "train": {"lora": {}}}, "train.lora"),
    ],
)
def test_what_ngrams_do_not_do_is_refused_by_name(table: dict[str, Any], key: str) -> None:
    error = refusal(table)
    assert error.code == "recipe.bad-value" and f"`{key}`" in error.what


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("clip", 0.0), ("clip", -1.0), ("delta", 0.0), ("delta", 1.0), ("epsilon", 0.0), ("noise_multiplier", 0.0),
        ("records_per_unit", 0),
    ],
)  # fmt: skip
def test_numbers_that_protect_nothing_are_refused(key: str, value: float) -> None:
    table = {"unit": "record"} | ({"epsilon": 3.0} if key != "noise_multiplier" else {}) | {key: value}
    assert f"privacy.{key}" in refusal({**SMALL, "privacy": table}).what


@pytest.mark.parametrize(
    ("section", "leak", "key"),
    [
        ({"train": {"schedule": "plateau"}}, "plateau", "train.schedule"),
        ({"tokenizer": {"kind": "char"}}, "tokenizer", "tokenizer.kind"),
        ({"task": "sentiment", "data": {"source": "/data/a.csv"}}, "labels", "data.labels"),
    ],
)
def test_what_is_learned_beside_the_mechanism_is_accepted_by_name_or_refused(
    section: dict[str, Any], leak: str, key: str
) -> None:
    others = [other for other in ("plateau", "tokenizer", "labels", "scores", "tuning") if other != leak]
    privacy: dict[str, Any] = {"epsilon": 3.0, "unit": "record"}
    for allowed in ([], others):
        error = refusal({**SMALL, **section, "privacy": {**privacy, "allow": allowed}})
        assert f"`{key}`" in error.what and f'allow = ["{leak}"]' in error.what
    recipes.from_table({**SMALL, **section, "privacy": {**privacy, "allow": [leak]}})
    recipes.from_table({**SMALL, **section})


def test_private_records_do_not_say_whether_they_may_have_several_labels() -> None:
    plain = {
        "task": "classification",
        "model": {"layers": 2},
        "data": {"source": "a.csv", "labels": ["a", "b"]},
    }
    assert recipes.from_table(plain).multi_label is None
    private = recipes.from_table({**plain, "privacy": {"epsilon": 3.0, "unit": "record"}})
    assert private.multi_label is False


def test_a_task_with_prompts_needs_two_lines() -> None:
    """What is left out is what the ready recipes say; whoever says anything of tokens, network or privacy says it all."""
    two = recipes.from_table({"task": "translation", "data": {"source": "pairs.csv"}})
    assert (two.tokenizer.kind, two.tokenizer.vocab_size) == ("bpe", 8192)
    assert (two.model.size, two.model.context, two.train.budget) == ("tiny", 96, "10 min")
    longer = recipes.from_table(
        {
            "task": "chat",
            "data": {"source": "a.jsonl"},
            "model": {"context": 128},
            "train": {"budget": "9 steps"},
        }
    )
    assert (longer.tokenizer.kind, longer.model.context, longer.train.budget) == ("bpe", 128, "9 steps")
    for more in (
        {"tokenizer": {"kind": "char"}},
        {"model": {"layers": 2}},
        {"privacy": {"epsilon": 8, "unit": "record"}},
    ):
        own = recipes.from_table({"task": "chat", "data": {"source": "a.jsonl"}, **more})
        assert own.tokenizer.kind != "bpe" and own.train.budget == "2 min"
    again = recipes.from_table(two.model_dump(by_alias=True, exclude_none=True))
    assert recipes.differences(two, again) == []


@pytest.mark.parametrize("name", ["病历", "two words", "../out", "a" * 65])
def test_a_name_that_is_refused_is_told_in_words_what_a_name_may_be(name: str) -> None:
    with pytest.raises(RecipeError, match=r"may not stand there, or too many\. .*letters A to Z") as told:
        recipes.from_table({"name": name, "data": {"source": "notes.txt"}})
    assert told.value.code == "recipe.wrong-type" and "^[" not in str(told.value)
