"""The model card travels with the model: honest, and silent about sealed records."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from shuyuan import recipe as recipes
from shuyuan.compress import Variant
from shuyuan.report import model_card

MANIFEST: Any = SimpleNamespace(
    splits={"train": SimpleNamespace(records=4321, tokens=98765)}, output="tokens"
)


def _recipe(source: str | list[str] = "stdlib", **more: Any) -> recipes.Recipe:
    return recipes.check({"name": "notes", "data": {"source": source}, **more}, where="test")


def test_it_says_what_is_not_promised_and_how_to_load() -> None:
    card = model_card(_recipe(), MANIFEST)
    assert card.startswith("---\nlibrary_name: transformers\n")
    for words in ("**Not private.**", "documentation and source text of Python", "4,321 records", "AutoModelForCausalLM",
                  "No personal data was masked", "trained from scratch"):  # fmt: skip
        assert words in card
    assert "shuyuan export" not in card


def test_a_sealed_run_tells_no_counts() -> None:
    card = model_card(_recipe(vault={"key": "env:KEY"}), MANIFEST)
    assert "4,321" not in card and "98,765" not in card
    assert "shuyuan export RUN --to FOLDER" in card and "encrypted and authenticated" in card


@pytest.mark.parametrize("vault", [None, {"key": "file:/home/someone/secret.key"}])
def test_private_sources_are_named_by_kind_alone(vault: dict[str, str] | None) -> None:
    source = ["/clinic/ward-7/patients.jsonl.gz", "/clinic/letters", "hf:org/public"]
    card = model_card(_recipe(source, **({"vault": vault} if vault else {})))
    assert (
        "private records (.jsonl files) and private records (a folder of files) and the public data set org/public"
        in card
    )
    assert not any(word in card for word in ("clinic", "ward", "patients", "someone", "secret.key"))


def test_a_classifier_that_started_from_another_model_says_so() -> None:
    recipe = _recipe(task="sentiment", model={"from": "/home/someone/models/tiny-bert", "context": 64})
    card = model_card(recipe)
    assert "pipeline_tag: text-classification" in card and "shuyuan classify RUN" in card
    assert "AutoModelForSequenceClassification" in card and "Qwen3" not in card
    assert "started from the model tiny-bert" in card and "/home" not in card
    assert "hf:org/name@" in model_card(_recipe(model={"from": "hf:org/name@" + "a" * 40}))


def test_a_base_that_was_rounded_is_told() -> None:
    """The model holds the rounded matrices: whoever compares it with the one that it started from should know."""
    for lora, words in (
        ({"rank": 4, "base": "int4"}, "rank 4 beside matrices that were rounded to int4"),
        ({"rank": 4}, "rank 4 with"),
    ):
        card = model_card(_recipe(model={"from": "somewhere"}, train={"lora": lora}))
        assert words in card and ("rounded" in card) == ("base" in lora)


@pytest.mark.parametrize(
    ("task", "command"),
    [
        ("translation", 'shuyuan translate RUN "A text" --to LANGUAGE'),
        ("question-answering", 'shuyuan answer RUN "A text" --context FILE'),
        ("chat", 'shuyuan chat RUN "A text"'),
    ],
)
def test_a_model_with_prompts_is_asked_by_its_verb(task: str, command: str) -> None:
    card = model_card(recipes.check({"task": task, "data": {"source": "a.jsonl"}}, where="test"))
    assert command in card
    assert f"trained for {task}" in card


@pytest.mark.parametrize("task", ["generation", "translation", "summarization", "chat", "sentiment"])
def test_the_card_of_a_variant_names_the_verb_of_its_task(task: str) -> None:
    recipe = _recipe("notes.jsonl", task=task)
    whole, smaller = model_card(recipe), model_card(recipe, variant=Variant(4, 0.5))
    (asked,) = (line for line in whole.splitlines() if line.startswith("shuyuan "))
    assert f"{asked} --variant pruned-50-int4" in smaller.splitlines()
    assert "from_pretrained" not in smaller and "50.0%" in smaller
