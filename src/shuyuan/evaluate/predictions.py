"""What a model answers to prompts, beside what records answer and what anyone would try first."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..data import Manifest, PromptRows, Tokenizer
from ..data.batches import at_step
from ..data.prompts import LEARNED, OWN, pieces_of
from ..data.shards import Tokens
from ..inference import Predictor
from ..progress import Progress
from ..tasks import Prompted
from ..tasks.languages import words
from ..tasks.prompted import Case
from .slices import by_length, by_owner

# Of some answers: their scores, what stands behind them as JSON can hold it, and each: {prompt, answer, right, score}.
Judged = tuple[dict[str, float], dict[str, Any], list[dict[str, Any]]]

MOST_TOKENS = 256  # of an answer
SAMPLES = 3
SHOWN, SHOWN_CHARS = 5, 600  # of the worst answers, and characters of each text that is shown


def stored_cases(rows: PromptRows, tokenizer: Tokenizer, numbers: Sequence[int]) -> list[Case]:
    """Some rows of a split as cases.

    Args:
        rows: of a split.
        tokenizer: of the run.
        numbers: of the rows that are wanted, from 0 up to `rows.count`.
    """
    return [_stored(*rows.row(number), tokenizer) for number in numbers]


def drawn(count: int, most: int, seed: int) -> list[int]:
    """Which of so many things are looked at: all, or as many as are wanted, drawn from all over.

    Args:
        count: how many things there are.
        most: how many are wanted at most.
        seed: start of the draw; the same one draws the same.

    Returns:
        Numbers from 0 up to `count`, each once; in order where all are taken.
    """
    chosen: list[int] = (at_step(0, most, count, seed) if most < count else np.arange(count)).tolist()
    return chosen


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


def answered(cases: Sequence[Case], predictor: Predictor, split: str, progress: Progress) -> list[str]:
    """The model's likeliest answers.

    Args:
        cases: the prompts.
        predictor: answers them.
        split: its name.
        progress: shows the prompts done.
    """
    longest = max(len(predictor.encode(right)) for case in cases for right in case.right)
    with progress.stage(f"answer on {split}", len(cases), "prompts") as stage:
        return predictor.answers(
            [case.prompt for case in cases],
            max_tokens=min(MOST_TOKENS, 2 * longest + 8),
            done=lambda _: stage.advance(),
        )


def judged(
    cases: Sequence[Case],
    answers: Sequence[str],
    task: Prompted,
    training: Sequence[Case],
    owners: Sequence[Hashable] = (),
) -> Judged:
    """Answers, scored.

    Args:
        cases: the prompts.
        answers: the model's to each.
        task: says how answers are scored.
        training: what baselines may look at.
        owners: of each case; left out where nobody knows them.
    """
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
    values = [each["score"] for each in told]
    slices = by_length(lengths, values) + by_owner(owners, values)
    return scores, {"measure": task.measure, "worst": worst, "slices": slices}, told


def by_split(
    manifest: Manifest, score: Callable[[str], Judged]
) -> tuple[dict[str, float], dict[str, Any], list[dict[str, Any]]]:
    """Answers to each held-out split that has rows.

    Args:
        manifest: what was prepared.
        score: of a split, by its name.

    Returns:
        ({"SPLIT.METRIC": value}, {split: what stands behind them}, samples).
    """
    metrics: dict[str, float] = {}
    details: dict[str, Any] = {}
    samples: list[dict[str, Any]] = []
    for split in ("validation", "test"):
        if split not in manifest.splits or not manifest.splits[split].rows:
            continue
        scores, details[split], told = score(split)
        metrics |= {f"{split}.{name}": value for name, value in scores.items()}
        samples = samples or [sample_of(each) for each in told[:SAMPLES]]
    return metrics, details, samples


def sample_of(told: dict[str, Any]) -> dict[str, Any]:
    """An answer as a sample of what the model writes.

    Args:
        told: {prompt, answer, right, …}, as it stands in answers.json.
    """
    sample = {"prompt": told["prompt"], "text": f" \u2192 {told['answer']}", "answer": told["right"]}
    return sample | {name: told[name] for name in ("asked", "wanted") if name in told}


def _told(case: Case, answer: str, task: Prompted) -> dict[str, Any]:
    return {
        "prompt": "\n".join(text[:SHOWN_CHARS] for text in case.texts),
        "asked": case.texts[-1][:SHOWN_CHARS],
        "wanted": task.wanted(case),
        "answer": answer[:SHOWN_CHARS],
        "right": case.right[0][:SHOWN_CHARS],
        "score": task.score(answer, case.right),
    }
