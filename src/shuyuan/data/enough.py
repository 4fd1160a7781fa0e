"""Refuses what is too little to learn from or to measure by."""

from __future__ import annotations

import numpy as np

from ..errors import DataError
from ..recipe import Recipe
from ..tasks import task_named
from .manifest import Split
from .records import empty
from .split import SPLITS, TRAIN
from .survey import Survey

_MEND = "Add records, or hold out another share."
_MEND_CONTEXT = "Raise `model.context`, or choose a tokenizer with fewer tokens a text, such as bpe."
_MEND_WINDOW = "Add records, hold out another share, cut text into smaller records (`data.record`), or lower `model.context`."


def check_enough(recipe: Recipe, survey: Survey) -> None:
    """Looks before the long work: a split needs a window of tokens, or for a task with labels a record, and training two labels.

    Args:
        recipe: says what is asked.
        survey: what the first pass saw.

    Raises:
        DataError: there is too little.
    """
    count = len(survey.split_R)
    if not count:
        raise empty(survey.skipped)
    more = f"Of {count:,} records, {int((~survey.kept_R).sum()):,} are duplicates."
    if recipe.data.owner is not None and (owners := len(np.unique(survey.owners_R))) < len(_asked(recipe)):
        more += f" An owner is in one split alone, and there {'is' if owners == 1 else 'are'} {owners}."
    for number, name in enumerate(SPLITS):
        here_R = (survey.split_R == number) & survey.kept_R
        if name not in _asked(recipe):
            continue
        if _in_rows(recipe, survey):
            if not here_R.any():
                raise _too_little(name, f"The {name} split has no record. {more}", _MEND)
            continue
        most = int(survey.bytes_R[here_R].sum() + here_R.sum())  # no tokenizer makes more tokens than bytes
        if most < recipe.model.context:
            raise _too_little(name, f"{_short(name, f'at most {most:,}', recipe)} {more}")
    if len(survey.labels_R):
        _check_labels(survey)


def check_written(recipe: Recipe, survey: Survey, splits: dict[str, Split]) -> None:
    """Looks again when tokens are counted.

    Args:
        recipe: says what is asked.
        survey: what the first pass saw.
        splits: as written, by name.

    Raises:
        DataError: a split does not fill one window, or none of its answers fit into one.
    """
    for name in _asked(recipe):
        if _in_rows(recipe, survey):
            if name not in splits or not splits[name].records:
                raise _too_little(
                    name, f"No record of the {name} split fits into model.context.", _MEND_CONTEXT
                )
            continue
        if splits[name].tokens < recipe.model.context:
            what = _short(name, f"{splits[name].tokens:,}", recipe)
            raise _too_little(name, f"{what} It has {splits[name].records:,} records.")


def _in_rows(recipe: Recipe, survey: Survey) -> bool:
    """Whether each record has rows of its own, so that one is enough."""
    return len(survey.labels_R) > 0 or task_named(recipe.task).prompted


def _check_labels(survey: Survey) -> None:
    found = np.unique(survey.labels_R[survey.kept_R & (survey.split_R == TRAIN)])
    if len(found) < 2:
        own = survey.label_sets[found[0]] if survey.label_sets else [int(found[0])]
        named = f"the label {' and '.join(survey.labels[number] for number in own)}" if own else "no label"
        raise DataError(
            "data.one-label",
            f"All records of the training split have {named}, so there is nothing to tell apart.",
            where="data.label",
            mend="Name another column as `data.label`, or add records of other labels.",
        )


def _asked(recipe: Recipe) -> list[str]:
    return [*SPLITS[:2], *(SPLITS[2:] if recipe.data.test is not None else [])]


def _short(split: str, tokens: str, recipe: Recipe) -> str:
    return f"The {split} split has {tokens} tokens, less than one window of model.context = {recipe.model.context}."


def _too_little(split: str, what: str, mend: str = _MEND_WINDOW) -> DataError:
    return DataError(
        "data.too-little",
        what,
        where="data.source" if split == "train" else f"data.{split}",
        mend=mend,
    )
