"""Audits a trained run: scores its canaries by what the model learned of them, and says what that proves about ε."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..data import Canaries, Manifest, load_canaries
from ..errors import RunError
from ..inference import Computed, computed
from ..models import load_network
from ..privacy import accountant, mechanism_in
from ..privacy.audit import audit as verdict_on
from ..progress import Progress
from ..recipe import Recipe
from ..runs import not_trained
from ..train.framework import framework_of
from ..vault import Store
from .scores import AUDIT_FILE

BATCH = 64
PROMPT = 8  # tokens of a canary that the extraction check gives away
Ids = NDArray[np.int64]


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
        {epsilon_lower, confidence, ceiling, epsilon_upper, delta, canaries, guesses, correct, scored_by, extraction}

    Raises:
        RunError: there is no trained model, no canary was planted, or the family has no white-box audit.
    """
    canaries = _planted(recipe, store, white_box)
    before, after = framework_of(recipe).starting_model(recipe, manifest), load_network(store)
    rows = _rows(canaries, manifest.marks.end_id)
    network = computed(after, "fp32")
    if white_box:
        from .white_box import shares

        planted = int(canaries.included_M.sum())
        scores = shares(before, after, rows, store, manifest, recipe.model.context, planted, progress)  # type: ignore[arg-type]
    else:
        scores = _losses(computed(before, "fp32"), *rows, progress, "before training")
        scores -= _losses(network, *rows, progress, "after it")
    mechanism = mechanism_in(recipe)
    delta = mechanism.delta if mechanism else accountant.default_delta(manifest.splits["train"].owners)
    found = asdict(verdict_on(scores, canaries.included_M, delta))
    result = found | {
        "epsilon_upper": mechanism.epsilon(mechanism.steps) if mechanism else None,
        "delta": delta,
        "scored_by": "share in the update" if white_box else "fall of the loss",
        "extraction": _extraction(network, canaries, manifest.marks.end_id, progress),
    }
    store.write_json(AUDIT_FILE, result)
    return result


def _planted(recipe: Recipe, store: Store, white_box: bool) -> Canaries:
    """The canaries of a run that can be audited."""
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
    if white_box and recipe.model.family == "rnn":
        raise RunError(
            "run.no-white-box",
            "The white-box audit computes gradients in PyTorch, and this model is Keras'.",
            where=str(store.path),
            mend="Leave --white-box out; the audit then goes by the fall of each canary's loss.",
        )
    return canaries


def _rows(canaries: Canaries, end_id: int) -> tuple[Ids, Ids]:
    """Inputs and targets of every canary, as in training: an end token before, and one behind."""
    tokens = np.pad(canaries.tokens_MT, ((0, 0), (1, 1)), constant_values=end_id).astype(np.int64)
    return tokens[:, :-1].copy(), tokens[:, 1:].copy()


def _losses(
    network: Computed, inputs: Ids, targets: Ids, progress: Progress, when: str
) -> NDArray[np.float64]:
    """The summed loss of each canary."""
    found = []
    with progress.stage(f"canaries {when}", len(inputs), "canaries") as stage:
        for start in range(0, len(inputs), BATCH):
            part = slice(start, start + BATCH)
            found.append(network.losses(inputs[part], targets[part]))
            stage.advance(len(found[-1]))
    return np.concatenate(found)


def _extraction(network: Computed, canaries: Canaries, end_id: int, progress: Progress) -> dict[str, int]:
    """How many canaries a greedy continuation of their first tokens brings back whole, of those put in and of those left out."""
    tokens = canaries.tokens_MT
    prompt = min(PROMPT, tokens.shape[1] // 2)
    whole = np.zeros(len(tokens), bool)
    with progress.stage("try to extract them", len(tokens), "canaries") as stage:
        for start in range(0, len(tokens), BATCH):
            secret = tokens[start : start + BATCH]
            said = np.pad(secret[:, :prompt], ((0, 0), (1, 0)), constant_values=end_id)
            for _ in range(secret.shape[1] - prompt):
                said = np.concatenate([said, network.next_logits(said).argmax(1)[:, None]], 1)
            whole[start : start + BATCH] = (said[:, 1:] == secret).all(1)
            stage.advance(len(secret))
    put_in = canaries.included_M
    return {
        "put_in": int(put_in.sum()), "brought_back": int(whole[put_in].sum()),
        "left_out": int((~put_in).sum()), "brought_back_of_left_out": int(whole[~put_in].sum()),
    }  # fmt: skip
