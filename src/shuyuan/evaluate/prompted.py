"""Scores of a model that answers prompts: its answers to held-out ones, beside what the records answer."""

from __future__ import annotations

from typing import Any

from ..data import Manifest, PromptRows, Split, load_task, load_tokenizer, open_split
from ..inference import Predictor
from ..models import AnyNetwork, CompiledModel
from ..progress import Progress
from ..recipe import Recipe
from ..tasks import Prompted
from ..tasks.prompted import Case
from ..vault import Store
from .predictions import Judged, answered, by_split, drawn, judged, stored_cases

# Prompts of a split that are answered: more take longer and tell little more; of a large model fewer, down to LEAST_ANSWERED.
ANSWERED, LEAST_ANSWERED = 200, 20
OPERATIONS = 4e12  # that answering may take
REMEMBERED = 20_000  # training rows that a baseline looks at


def score_answers(
    recipe: Recipe, store: Store, manifest: Manifest, model: AnyNetwork | CompiledModel, progress: Progress
) -> tuple[dict[str, float], dict[str, Any], list[dict[str, Any]]]:
    """The model's answers to prompts of each held-out split, as of `by_split`.

    Args:
        recipe: resolved.
        store: the run's files.
        manifest: what was prepared, for a task with prompts.
        model: the run's, or a variant of it.
        progress: shows a stage for each split.
    """
    predictor = opened(recipe, store, model, progress)
    training = cases_of(recipe, store, manifest, "train", REMEMBERED)

    def score(split: str) -> Judged:
        most = prompts_to_answer(model.config.parameters, manifest.splits[split])
        rows = _rows(recipe, store, manifest, split)
        numbers = drawn(rows.count, most, recipe.seed)
        cases = stored_cases(rows, load_tokenizer(store), numbers)
        answers = answered(cases, predictor, split, progress)
        owners = rows.owners_N[numbers].tolist() if recipe.data.owner else ()
        return judged(cases, answers, predictor.task, training, owners)

    return by_split(manifest, score)


def prompts_to_answer(parameters: int, split: Split) -> int:
    """How many prompts of a split are answered: a pure function of the model's size and the length of the split's answers.

    Args:
        parameters: of the model.
        split: of which the prompts are.

    Returns:
        So many that their answers take about `OPERATIONS`, but `LEAST_ANSWERED` at least and `ANSWERED` at most.
    """
    tokens = max(1.0, split.learned / max(1, split.rows))
    affordable = int(OPERATIONS / (2 * parameters * tokens))
    return max(LEAST_ANSWERED, min(ANSWERED, affordable))


def cases_of(recipe: Recipe, store: Store, manifest: Manifest, split: str, most: int) -> list[Case]:
    """Prompts of a split, at most so many.

    Args:
        recipe: resolved.
        store: the run's files.
        manifest: what was prepared, for a task with prompts.
        split: "train", "validation" or "test".
        most: prompts; of more, some are drawn.
    """
    rows = _rows(recipe, store, manifest, split)
    return stored_cases(rows, load_tokenizer(store), drawn(rows.count, most, recipe.seed))


def _rows(recipe: Recipe, store: Store, manifest: Manifest, split: str) -> PromptRows:
    rows = open_split(store, manifest, split, recipe.model.context)
    assert isinstance(rows, PromptRows)
    return rows


def opened(recipe: Recipe, store: Store, model: AnyNetwork | CompiledModel, progress: Progress) -> Predictor:
    """The model, ready to answer as it was trained to."""
    task = load_task(recipe, store)
    assert isinstance(task, Prompted)
    return Predictor(model, load_tokenizer(store), task, progress)
