"""Figures of the handbook's page on alignment: tuning that learns prompts too, and preferences learned by DPO from a tuned run.

Shuyuan trains neither; both stand here so that they can be held beside what it does.
"""

from __future__ import annotations

import copy
import importlib.util
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from shuyuan import data, models, pipeline, recipe, vault
from shuyuan.data.prompts import targets_of
from shuyuan.handbook import QUESTIONS
from shuyuan.runs import Run
from shuyuan.train import training

NOTHING, ALL = data.NOTHING, 3080
PAIRS, STEPS, HELD_OUT, RATE, BETA = 16, 60, 200, 1e-4, 0.1


def tuned_on_everything(folder: Path) -> Path:
    """The recipe of a tuned run, trained once more with the prompts as targets too; its folder."""
    beside = folder.with_name("everything")
    if not (beside / "model").exists():
        own = recipe.load(folder / "recipe.toml")  # its steps may be fewer than the page's
        changes = [f'train.budget="{own.train.steps} steps"', f"train.batch_size={own.train.batch_size}"]
        source = folder.with_name("recipe.toml")
        with _prompts_learned(), pipeline.begin(source, "train", out=beside, changes=changes) as job:
            pipeline.make_plan(job)
            pipeline.prepare(job)
            pipeline.train_model(job)
    return beside


def exact_of(folder: Path) -> float:
    """Percent of the test questions that a run answers rightly."""
    test = folder.parent.parent / "data/dialogue/banking77_test.csv"
    return 100 * float(pipeline.evaluate_file(folder, test, limit=ALL)["scores"]["exact_match"])


def held_out_loss(folder: Path) -> float:
    """Of the answers, at the end of a run's training."""
    events = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    return float([event for event in events if event["event"] == "train.end"][-1]["validation_loss"])


@contextmanager
def _prompts_learned() -> Iterator[None]:
    known = training.open_split

    def opened(store: Any, manifest: Any, split: str, *more: Any, **named: Any) -> Any:
        rows = known(store, manifest, split, *more, **named)
        if split == "train":
            at = rows.at
            rows.at = lambda numbers: everything(*at(numbers))
        return rows

    training.open_split = opened
    try:
        yield
    finally:
        training.open_split = known


def everything(inputs_BT: NDArray[Any], targets_BT: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """The same rows with every token up to the end of the answer as a target."""
    targets_BT = targets_BT.copy()
    for inputs, targets in zip(inputs_BT, targets_BT, strict=True):
        last = int(np.flatnonzero(targets != NOTHING)[-1])
        targets[:last] = inputs[1 : last + 1]
    return inputs_BT, targets_BT


def preferences(folder: Path) -> dict[str, float]:
    """Before and after some steps of DPO, on held-out pairs: nats of the right answers, of other ones, and how often the right ones win.

    The worse answer of a question is the answer to another one, drawn anew until it differs.
    """
    dpo = _solution()
    with vault.open_store(Run(folder), None, writable=False) as store:
        own = recipe.load(folder / "recipe.toml")
        manifest = data.load_manifest(store)
        rows, held = (
            data.open_split(store, manifest, name, own.model.context) for name in ("train", "validation")
        )
        reference = models.load_network(store, "model").eval()
        policy = copy.deepcopy(reference)
    optimizer = torch.optim.AdamW(policy.parameters(), lr=RATE, weight_decay=0.0)
    test = _pairs(held, np.arange(min(HELD_OUT, held.count)), 0)
    found = _told(dpo, policy, test, "before")
    random = np.random.default_rng(1)
    for step in range(1, STEPS + 1):
        pair = _pairs(rows, random.integers(0, rows.count, PAIRS), step)
        with torch.no_grad():
            before = [_log_probability(dpo, reference, *side) for side in pair]
        loss = dpo.dpo_loss(*(_log_probability(dpo, policy, *side) for side in pair), *before, BETA)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    found |= _told(dpo, policy, test, "after")
    grown = [found[f"right-{when}"] - found[f"wrong-{when}"] for when in ("before", "after")]
    return found | {"margin": grown[1] - grown[0]}


Side = tuple[torch.Tensor, torch.Tensor]


def _pairs(rows: Any, numbers: NDArray[Any], seed: int) -> tuple[Side, Side]:
    """Tokens and what of them is the answer: of the right answers, and of those to other questions."""
    random = np.random.default_rng((seed, 2))
    right, wrong = [], []
    for number in numbers.tolist():
        prompt, answer = _parted(rows, number)
        other = answer
        while other == answer:
            other = _parted(rows, int(random.integers(rows.count)))[1]
        right.append((prompt, answer))
        wrong.append((prompt, other))
    return _side(right), _side(wrong)


def _parted(rows: Any, number: int) -> tuple[list[int], list[int]]:
    ids, roles = rows.row(number)
    targets = targets_of(ids.astype(np.int64), roles, NOTHING)
    answer = [int(each) for each in targets if each != NOTHING]
    return [int(each) for each in ids[: len(ids) - len(answer)]], answer


def _side(rows: list[tuple[list[int], list[int]]]) -> Side:
    width = max(len(prompt) + len(answer) for prompt, answer in rows)
    tokens_BT = torch.zeros(len(rows), width, dtype=torch.int64)
    answer_BT = torch.zeros(len(rows), width, dtype=torch.bool)
    for place, (prompt, answer) in enumerate(rows):
        tokens_BT[place, : len(prompt) + len(answer)] = torch.tensor(prompt + answer)
        answer_BT[place, len(prompt) : len(prompt) + len(answer)] = True
    return tokens_BT, answer_BT


def _log_probability(dpo: Any, model: Any, tokens_BT: torch.Tensor, answer_BT: torch.Tensor) -> torch.Tensor:
    return dpo.answer_log_probability(model.lm_head(model.model(tokens_BT)), tokens_BT, answer_BT)


@torch.no_grad()
def _told(dpo: Any, model: Any, test: tuple[Side, Side], when: str) -> dict[str, float]:
    right, wrong = (_log_probability(dpo, model, *side) for side in test)
    return {
        f"right-{when}": float(right.mean()),
        f"wrong-{when}": float(wrong.mean()),
        f"wins-{when}": 100 * float((right > wrong).float().mean()),
    }


def _solution() -> Any:
    """The functions that the page asks for."""
    spec = importlib.util.spec_from_file_location("dpo", QUESTIONS / "alignment" / "solution.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
