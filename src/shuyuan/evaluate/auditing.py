"""Audits a trained run: scores its canaries by what the model learned of them, and says what that proves about ε."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..data import Canaries, Manifest, UnitRows, load_canaries
from ..errors import RunError
from ..hardware import detect
from ..models import hub
from ..models.hub import Network
from ..privacy import accountant, mechanism_in
from ..privacy.audit import audit as verdict_on
from ..progress import Progress
from ..recipe import Recipe
from ..runs import not_trained
from ..train.with_torch import starting_model
from ..vault import Store
from .scores import AUDIT_FILE

BATCH = 64
COORDINATES = 16_384  # of the weights that a white-box audit looks at
RIDGE = 1e-3
OTHERS = 256  # records whose gradients are told apart from the canaries'
PROMPT = 8  # tokens of a canary that the extraction check gives away


def audit(
    recipe: Recipe, store: Store, manifest: Manifest, progress: Progress, *, white_box: bool = False
) -> dict[str, Any]:
    """The one-run audit, and the extraction check.

    Args:
        recipe: as resolved.
        store: the run's files; audit.json is written.
        manifest: what was prepared.
        progress: shows it.
        white_box: score by the weights, as someone who has the model before and after can: by the share that each canary's
            gradient has in what training changed. Else by the fall of each canary's loss.

    Returns:
        {epsilon_lower, confidence, ceiling, epsilon_upper, canaries, guesses, correct, scored_by, extraction}

    Raises:
        RunError: there is no trained model, or no canary was planted.
    """
    canaries = load_canaries(store)
    if canaries is None:
        raise RunError(
            "run.no-canaries",
            "No canary was planted before training, so there is nothing to ask the model about.",
            where=str(store.path),
            mend="Start a new run with [audit] canaries = 1000.",
        )
    if len(canaries.included_M) < 2:
        raise RunError(
            "run.few-canaries",
            "One canary shows nothing.",
            where="audit.canaries",
            mend="Start a new run with [audit] canaries = 1000.",
        )
    if not store.exists("model"):
        raise not_trained(store.path)
    device = detect().device
    before = starting_model(recipe, manifest).to(device)
    after = hub.load(store).to(device)
    inputs, targets = _rows(canaries, manifest.marks.end_id)
    if white_box:
        beside = _others(store, manifest, recipe.model.context, int(canaries.included_M.sum()))
        scores = _share_in_the_update(before, after, [(inputs, targets), beside], progress)
    else:
        scores = _losses(before, inputs, targets, progress) - _losses(after, inputs, targets, progress)
    mechanism = mechanism_in(recipe)
    delta = mechanism.delta if mechanism else accountant.default_delta(manifest.splits["train"].owners)
    found = asdict(verdict_on(scores, canaries.included_M, delta))
    result = found | {
        "epsilon_upper": mechanism.epsilon(mechanism.steps) if mechanism else None,
        "delta": delta,
        "scored_by": "share in the update" if white_box else "fall of the loss",
        "extraction": _extraction(after, canaries, manifest.marks.end_id, progress),
    }
    store.write_json(AUDIT_FILE, result)
    return result


def _rows(canaries: Canaries, end_id: int) -> tuple[Tensor, Tensor]:
    """Inputs and targets of every canary, as in training: an end token before, and one behind."""
    tokens = np.pad(canaries.tokens_MT, ((0, 0), (1, 1)), constant_values=end_id)
    rows = torch.from_numpy(tokens)
    return rows[:, :-1], rows[:, 1:]


@torch.no_grad()
def _losses(model: Network, inputs: Tensor, targets: Tensor, progress: Progress) -> NDArray[np.float64]:
    """The summed loss of each canary."""
    model.eval()
    found = []
    with progress.stage("score the canaries", len(inputs), "canaries") as stage:
        for rows, wanted in zip(torch.split(inputs, BATCH), torch.split(targets, BATCH), strict=True):
            device = next(model.parameters()).device
            found.append(model.losses(rows.to(device), wanted.to(device)).sum(1).cpu())
            stage.advance(len(rows))
    return torch.cat(found).double().numpy()


def _others(store: Store, manifest: Manifest, context: int, planted: int) -> tuple[Tensor, Tensor]:
    """Rows of some records that are no canaries; those were written behind all others."""
    units = UnitRows(store, manifest, context, "record", 1)
    random = np.random.default_rng(0)
    there = units.count - planted
    rows = units.rows(random.choice(there, min(there, OTHERS), replace=False), random)
    return torch.from_numpy(rows.inputs_NT), torch.from_numpy(rows.targets_NT)


def _share_in_the_update(
    before: Network, after: Network, sources: list[tuple[Tensor, Tensor]], progress: Progress
) -> NDArray[np.float64]:
    """How much of each canary's gradient is in what training changed, all of them and other records explained together.

    The plain inner product of update and gradient mostly tells what all rows have in common. So the update is written as a
    weighted sum of the gradients of canaries and some other records, as nearly as can be (ridge regression), and the
    canaries' weights are the scores. A random choice of COORDINATES of the model's weights is enough, and bounds the memory.

    Args:
        before, after: the model before and after training.
        sources: inputs and targets, first of the canaries, then of other records.
        progress: shows it.
    """
    first, last = dict(before.named_parameters()), dict(after.named_parameters())
    random = torch.Generator().manual_seed(0)
    share = min(1.0, COORDINATES / sum(weight.numel() for weight in first.values()))
    chosen = {
        name: torch.randperm(weight.numel(), generator=random)[: max(1, round(share * weight.numel()))]
        for name, weight in first.items()
    }

    def picked(of: Callable[[str], Tensor]) -> Tensor:
        return torch.cat([of(name).detach().flatten().cpu()[chosen[name]] for name in first]).double()

    downhill = picked(lambda name: first[name] - last[name])
    rows = [row for inputs, targets in sources for row in zip(inputs, targets, strict=True)]
    device = next(before.parameters()).device
    gradients = torch.empty(len(rows), len(downhill), dtype=torch.float64)
    with progress.stage("score the canaries", len(rows), "rows") as stage:
        for number, (inputs, targets) in enumerate(rows):
            loss = before.loss(inputs[None].to(device), targets[None].to(device))
            parts = dict(zip(first, torch.autograd.grad(loss, list(first.values())), strict=True))
            gradients[number] = picked(parts.__getitem__)
            stage.advance(1)
    gradients /= gradients.norm(dim=1, keepdim=True).clamp(min=1e-12)
    gram = gradients @ gradients.T + RIDGE * torch.eye(len(rows), dtype=torch.float64)
    scores: NDArray[np.float64] = torch.linalg.solve(gram, gradients @ downhill).numpy()
    return scores[: len(sources[0][0])]


@torch.no_grad()
def _extraction(model: Network, canaries: Canaries, end_id: int, progress: Progress) -> dict[str, int]:
    """How many canaries a greedy continuation of their first tokens brings back whole, of those put in and of those left out."""
    model.eval()
    tokens = torch.from_numpy(canaries.tokens_MT)
    prompt = min(PROMPT, tokens.shape[1] // 2)
    whole = np.zeros(len(tokens), bool)
    with progress.stage("try to extract them", len(tokens), "canaries") as stage:
        for start in range(0, len(tokens), BATCH):
            secret = tokens[start : start + BATCH].to(next(model.parameters()).device)
            said = torch.nn.functional.pad(secret[:, :prompt], (1, 0), value=end_id)
            for _ in range(secret.shape[1] - prompt):
                said = torch.cat([said, model(said)[:, -1:].argmax(-1)], 1)
            whole[start : start + BATCH] = (said[:, 1:] == secret).all(1).cpu().numpy()
            stage.advance(len(secret))
    put_in = canaries.included_M
    return {
        "put_in": int(put_in.sum()), "brought_back": int(whole[put_in].sum()),
        "left_out": int((~put_in).sum()), "brought_back_of_left_out": int(whole[~put_in].sum()),
    }  # fmt: skip
