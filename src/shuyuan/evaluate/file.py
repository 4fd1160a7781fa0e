"""Scores of a run's model on a file of one's own, with intervals and by slices, beside another run's on the same records."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..data import load_task
from ..data.clean import clean
from ..data.masking import Masker
from ..data.records import empty
from ..data.sources import Skipped, Wanted, open_source
from ..progress import Progress
from ..recipe import MULTI_LABEL_KEYS, Recipe
from ..recipe import from_table as recipe_of
from ..runs import not_trained
from ..tasks import Example, Mixed, Prompted, Task
from ..tasks.measures import check_installed
from ..tasks.packing import changed
from ..vault import Store
from .compare import compared
from .scorer import Record, Scorer

LIMIT = 500  # records of a file that are scored, unless another number is asked for


def evaluate_file(
    recipe: Recipe,
    store: Store,
    file: str | Path,
    progress: Progress,
    *,
    task: str | None = None,
    columns: Mapping[str, str] | None = None,
    limit: int = LIMIT,
    against: tuple[Recipe, Store] | None = None,
) -> dict[str, Any]:
    """Scores the model on the records of a file, read, cleaned and masked as the run's own.

    Args:
        recipe: of the run, as resolved.
        store: the run's files.
        file: as a recipe's `data.source`.
        progress: shows the records done.
        task: what the model is asked to do; None: what it was trained for.
        columns: field to column, where they have other names than in the recipe.
        limit: records at most, the first of the file.
        against: another run, whose model is scored on the same records.

    Returns:
        {task, file, records, skipped, scores, measure, slices, worst}, and with `against` {against: {run, scores, differences:
        {measure: {difference, difference_low, difference_high, p_value}}}}, the differences as of `compare.compared`.

    Raises:
        RunError: there is no model, or it has no head for the task.
        DataError: the file cannot be read, or has no such column.
        MachineError: a library for the task's scores is missing.
    """
    asked = _asked(recipe, Path(file).absolute(), task or recipe.task, dict(columns or {}))
    runs = [(recipe, store), *([against] if against else [])]
    skipped = Skipped()
    scorers, read = [], []
    for number, (each, files) in enumerate(runs):
        if not files.exists("model"):
            raise not_trained(files.path)
        model = each.model.model_dump(by_alias=True, exclude_none=True)
        own = asked.replace(model=model) if number else asked
        chosen = _chosen(each, own, files)
        check_installed(chosen)
        read.append(_records(own, chosen, Skipped() if number else skipped, limit))
        if not read[0]:
            raise empty(skipped)
        scorers.append(Scorer(each, files, chosen, progress))
    read = _that_fit(read, scorers, skipped)
    scored = [scorer.scored(records, Path(file).name) for scorer, records in zip(scorers, read, strict=True)]
    about = {"task": asked.task, "file": str(file), "records": len(read[0]), "skipped": dict(skipped)}
    found = about | {"scores": scored[0].scores, **scored[0].details}
    if against is not None:
        ours, theirs = (each.values for each in scored)
        differences = {name: compared(ours[name], theirs[name]) for name in ours}
        found["against"] = {
            "run": str(against[1].path),
            "scores": scored[1].scores,
            "differences": differences,
        }
    return found


def read_examples(recipe: Recipe, store: Store, file: str | Path, limit: int) -> list[Example]:
    """The first records of a file as the run's task has them, cleaned and masked as the run's own.

    Args:
        recipe: of the run.
        store: its files.
        file: a source of its own, with the run's columns.
        limit: records at most.

    Raises:
        DataError: the file cannot be read, has no such column, or no record.
    """
    asked = _asked(recipe, Path(file).absolute(), recipe.task, {})
    skipped = Skipped()
    records = _records(asked, load_task(recipe, store), skipped, limit)
    if not records:
        raise empty(skipped)
    return [record.example for record in records]


def _chosen(recipe: Recipe, asked: Recipe, store: Store) -> Task:
    """The task as the run fixes it, also where it is one of several; else as any run would."""
    own = load_task(recipe, store)
    part = own.part(asked.task) if isinstance(own, Mixed) else None
    return part or (own if asked.task == recipe.task else load_task(asked))


def _asked(recipe: Recipe, file: Path, task: str, columns: dict[str, str]) -> Recipe:
    """The recipe of reading that file; of the run's own it keeps columns, languages, masking and limits."""
    table = recipe.model_dump(by_alias=True, exclude_none=True)
    kept = ["mask", "mask_patterns", "mask_names", "min_chars", "max_chars", "record"]
    if task == recipe.task:
        kept += [*recipe.columns, "languages", "labels", *MULTI_LABEL_KEYS, "owner"]
    data = {key: table["data"][key] for key in kept if key in table["data"]}
    asked = {"task": task, "data": data | columns | {"source": str(file)}, "model": table["model"]}
    return recipe_of(asked | {"tokenizer": table["tokenizer"]}, where="--column")


def _records(recipe: Recipe, task: Task, skipped: Skipped, limit: int) -> list[Record]:
    data, fields = recipe.data, recipe.columns
    masker = Masker(data.mask, data.mask_patterns, names=data.mask_names)
    columns = [*task.columns(fields), *([data.owner] if data.owner else [])]  # a file may do without owners
    wanted = Wanted(data.text, tuple(dict.fromkeys(columns)), data.record or "line")
    found: list[Record] = []

    def prepared(text: str) -> str:
        return masker(clean(text))

    for values, where in open_source(data.source, wanted).rows(skipped):
        for row, place in task.records(values, fields, where):
            lacking = task.lacking(row, fields)
            if lacking is not None:
                skipped[f"records without {lacking}"] += 1
                continue
            owner = row.get(data.owner) if data.owner else None
            for example in task.examples(row, fields, place):
                if example.label == "":
                    skipped["records without a label"] += 1
                    continue
                right = task.right(row, fields, example) if isinstance(task, Prompted) else []
                texts = changed(prepared, example), [*map(prepared, right)]
                found.append(Record(*texts, None if owner is None else str(owner)))
            if len(found) >= limit:
                return found[:limit]
    return found


def _that_fit(read: list[list[Record]], scorers: list[Scorer], skipped: Skipped) -> list[list[Record]]:
    """The records whose prompts all models can see, as in preparation; the others are counted.

    Raises:
        DataError: there is none.
    """
    told = [
        [scorer.fits(record) for record in records] for scorer, records in zip(scorers, read, strict=True)
    ]
    fit = [all(each) for each in zip(*told, strict=True)]
    if left_out := fit.count(False):
        context = min(scorer.context for scorer in scorers)
        skipped[f"records whose prompt does not fit {context:,} tokens"] += left_out
    if not any(fit):
        raise empty(skipped)
    return [[record for record, keep in zip(records, fit, strict=True) if keep] for records in read]
