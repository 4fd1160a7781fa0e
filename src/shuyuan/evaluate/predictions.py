"""What a model answers to prompts, beside what records answer and what anyone would try first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..data import PromptRows, Tokenizer
from ..data.batches import at_step
from ..data.prompts import LEARNED, OWN, pieces_of
from ..data.shards import Tokens
from ..inference import Predictor
from ..progress import Progress
from ..tasks import Prompted
from ..tasks.languages import words
from ..tasks.measures import interval
from ..tasks.prompted import Case

MOST_TOKENS = 256  # of an answer
SHOWN, SHOWN_CHARS = 5, 600  # of the worst answers, and characters of each text that is shown
SLICES = ("short", "middle", "long")


def stored_cases(rows: PromptRows, tokenizer: Tokenizer, most: int, seed: int) -> list[Case]:
    """Rows of a split as cases: all of them, or as many as are wanted, drawn from all over it."""
    count = min(most, rows.count)
    chosen = at_step(0, count, rows.count, seed) if count < rows.count else np.arange(count)
    return [_stored(*rows.row(number), tokenizer) for number in chosen.tolist()]


def _stored(ids: Tokens, roles: NDArray[np.uint8], tokenizer: Tokenizer) -> Case:
    """A row as a case; of one with several answers, as chats have, the last is asked for."""
    given = np.flatnonzero(~(roles & LEARNED).astype(bool))
    start = int(given[-1]) + 1  # the last answer is learned up to the row's end
    pieces = pieces_of(ids.tolist(), roles.tolist())
    own = [place for place, (role, _) in enumerate(pieces) if role & OWN]
    texts = [tokenizer.decode(pieces[place][1]) for place in own]
    place = max(number for number, place in enumerate(own) if pieces[place][0] & LEARNED)
    asks = tokenizer.decode([token for _, tokens in pieces[: own[0]] for token in tokens])
    return Case(ids[:start].tolist(), texts[:place], asks, [texts[place]])


def judged(
    cases: Sequence[Case],
    predictor: Predictor,
    training: Sequence[Case],
    split: str,
    progress: Progress,
) -> tuple[dict[str, float], dict[str, Any], list[dict[str, Any]]]:
    """The model's likeliest answers, scored.

    Args:
        cases: the prompts.
        predictor: answers them.
        training: what baselines may look at.
        split: its name.
        progress: shows the prompts done.

    Returns:
        (scores, what stands behind them as JSON can hold it, and each answer: {prompt, answer, right, score}).
    """
    task = predictor.task
    longest = max(len(predictor.encode(right)) for case in cases for right in case.right)
    with progress.stage(f"answer on {split}", len(cases), "prompts") as stage:
        answers = predictor.answers(
            [case.prompt for case in cases],
            max_tokens=min(MOST_TOKENS, 2 * longest + 8),
            done=lambda _: stage.advance(),
        )
    scores = {"answers": float(len(cases))} | task.scores(cases, answers)
    for name, guesses in task.baselines(cases, training).items():
        found = task.scores(cases, guesses)
        scores |= {
            f"baseline_{name}_{metric}": value
            for metric, value in found.items()
            if not metric.endswith(("_low", "_high"))
        }
    told = [_told(case, answer, task) for case, answer in zip(cases, answers, strict=True)]
    worst = sorted(told, key=lambda each: each["score"])[:SHOWN]
    lengths = [sum(len(words(text)) for text in case.texts) for case in cases]
    slices = by_length(lengths, [each["score"] for each in told])
    return scores, {"measure": task.measure, "worst": worst, "slices": slices}, told


def _told(case: Case, answer: str, task: Prompted) -> dict[str, Any]:
    return {
        "prompt": "\n".join(text[:SHOWN_CHARS] for text in case.texts),
        "answer": answer[:SHOWN_CHARS],
        "right": case.right[0][:SHOWN_CHARS],
        "score": task.score(answer, case.right),
    }


def by_length(lengths: Sequence[int], values: Sequence[float]) -> list[dict[str, Any]]:
    """The mean of records' scores by the length of their texts in words, a third of the records each.

    Returns:
        [{slice, from, to, records, mean, low, high}].
    """
    length_N = np.array(lengths)
    found = []
    for name, part in zip(
        SLICES, np.array_split(np.argsort(length_N, kind="stable"), len(SLICES)), strict=True
    ):
        if len(part):
            mean, low, high = interval([values[number] for number in part.tolist()])
            spread = {"from": int(length_N[part].min()), "to": int(length_N[part].max())}
            found.append(
                {"slice": name, **spread, "records": len(part), "mean": mean, "low": low, "high": high}
            )
    return found
