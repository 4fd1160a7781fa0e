"""Scores of a model that answers prompts: its answers to held-out ones, beside what the records answer."""

from __future__ import annotations

from typing import Any

from ..data import Manifest, PromptRows, load_task, load_tokenizer, open_split
from ..inference import Predictor
from ..models import AnyNetwork
from ..progress import Progress
from ..recipe import Recipe
from ..tasks import Prompted
from ..vault import Store
from .predictions import predicted, stored_cases

SAMPLES = 3
MOST_TOKENS = 256  # of an answer that is scored


def prompted_samples(
    recipe: Recipe, store: Store, manifest: Manifest, model: AnyNetwork, progress: Progress
) -> list[dict[str, Any]]:
    """A few held-out prompts: what was given, what the model answers, and what the record does."""
    split = "validation" if "validation" in manifest.splits else "train"
    rows = open_split(store, manifest, split, recipe.model.context)
    assert isinstance(rows, PromptRows)
    predictor = opened(recipe, store, model, progress)
    cases = stored_cases(rows, load_tokenizer(store), SAMPLES, recipe.seed)
    answers = predicted(cases, predictor, MOST_TOKENS, split, progress)
    return [
        {"prompt": "\n".join(case.texts), "text": f" \u2192 {answer}", "answer": case.answer}
        for case, answer in zip(cases, answers, strict=True)
    ]


def opened(recipe: Recipe, store: Store, model: AnyNetwork, progress: Progress) -> Predictor:
    """The model, ready to answer as it was trained to."""
    task = load_task(recipe, store)
    assert isinstance(task, Prompted)
    return Predictor(model, load_tokenizer(store), task, progress)
