"""Scores of a model that points to answers in a text, beside what anyone would try first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..data import Asked, Manifest, SpanRows, Tokenizer, load_task, load_tokenizer, open_split
from ..hardware import choose_precision, detect
from ..inference import Spanner
from ..inference.spans import found_in
from ..models import AnyNetwork
from ..progress import Progress
from ..recipe import Recipe
from ..tasks import QuestionAnswering
from ..tasks.prompted import Case
from ..tasks.question_answering import nowhere
from ..vault import Store
from .losses import mean_loss
from .predictions import Judged, by_split, drawn, judged

ANSWERED = 1000  # questions of a split; more take longer and tell little more
AT_ONCE = 32


def score_spans(
    recipe: Recipe, store: Store, manifest: Manifest, model: AnyNetwork, progress: Progress
) -> tuple[dict[str, float], dict[str, Any], list[dict[str, Any]]]:
    """The loss on each held-out split, and the model's answers to its questions; as of `by_split`.

    Args:
        recipe: resolved.
        store: the run's files.
        manifest: what was prepared, of questions and texts.
        model: the run's, or a variant of it.
        progress: shows a stage for each split.
    """
    at_once = recipe.train.micro_batch
    assert isinstance(at_once, int)  # resolved; what training had room for, this has too
    precision = choose_precision(recipe.train.precision, detect())
    task, tokenizer = load_task(recipe, store), load_tokenizer(store)
    assert isinstance(task, QuestionAnswering)
    spanner = Spanner(model, tokenizer, precision)

    def score(split: str) -> Judged:
        rows = open_split(store, manifest, split, recipe.model.context)
        assert isinstance(rows, SpanRows)
        loss = mean_loss(model, rows, at_once, precision, progress, split)
        numbers = drawn(rows.records, ANSWERED, recipe.seed)
        asked = [rows.asked(number) for number in numbers]
        answers = _answers(asked, spanner, tokenizer, split, progress)
        cases = [_case(each, tokenizer) for each in asked]
        owners = rows.owners_R[numbers].tolist() if recipe.data.owner else ()
        scores, details, told = judged(cases, answers, task, [], owners)
        return {"loss": loss, **scores}, details, told

    return by_split(manifest, score)


def _case(asked: Asked, tokenizer: Tokenizer) -> Case:
    question, text = tokenizer.decode(asked.question), tokenizer.decode(asked.text)
    return Case((), [text, question], "", [_said(asked, asked.answer, tokenizer)])


def _said(asked: Asked, place: tuple[int, int] | None, tokenizer: Tokenizer) -> str:
    if place is None:
        return nowhere(tokenizer.decode(asked.question))
    return tokenizer.decode(asked.text[place[0] : place[1]])


def _answers(
    asked: Sequence[Asked], spanner: Spanner, tokenizer: Tokenizer, split: str, progress: Progress
) -> list[str]:
    answers = []
    with progress.stage(f"answer on {split}", len(asked), "questions") as stage:
        for start in range(0, len(asked), AT_ONCE):
            part = asked[start : start + AT_ONCE]
            for each, places in zip(part, spanner.find_tokens(part), strict=True):
                answers.append(_said(each, found_in(places), tokenizer))
                stage.advance()
    return answers
