"""A law of loss, fitted to runs that are finished."""

from __future__ import annotations

from collections.abc import Sequence
from glob import glob
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import report, vault
from ..errors import RunError
from .job import Job, manifest_of
from .opening import look

if TYPE_CHECKING:
    from ..planning import scaling


def fit_law(patterns: Sequence[str], key: str | None = None, to: Path | None = None) -> dict[str, Any]:
    """A law of loss fitted to finished runs, as `shuyuan plan --fit … --json` prints it.

    Args:
        patterns: run folders, or patterns of them.
        key: where the vaults' key is, instead of where the recipes say.
        to: a page with the picture, in the clear; None: none is written.

    Raises:
        RunError: a run is not finished, is private, or was made of other records; or there are too few.
    """
    from ..planning import scaling

    points, settings = [], {}
    for folder in sorted({found for pattern in patterns for found in (glob(pattern) or [pattern])}):  # noqa: PTH207 - patterns may be absolute
        with look(folder, key) as job:
            points.append(_point(job))
            settings[folder] = manifest_of(job).settings
    if len(set(settings.values())) > 1:
        one, other = sorted({digest: folder for folder, digest in settings.items()}.values())[:2]
        raise RunError(
            "plan.other-records",
            f"Losses of {one} and {other} cannot be compared: their recipes say different things of data or tokenizer.",
            where="--fit",
            mend="Give runs whose recipes differ in [model] and [train] alone.",
        )
    found = scaling.fitted(points)
    if to is None:
        return found.to_json() | {"page": None}
    if to.exists():
        raise RunError(
            "plan.file-in-use", "There is a file already.", where=str(to), mend="Choose another --to."
        )
    vault.disk.replace_file(to, report.law_page(found).encode())
    return found.to_json() | {"page": str(to)}


def _point(job: Job) -> scaling.Point:
    from ..planning import scaling

    told = report.summary(job.run, job.store)
    loss = (told["loss"] or {}).get("validation")
    if loss is None or told["privacy"]:
        why = "has no validation loss" if loss is None else "is private, and its loss follows the noise too"
        raise RunError(
            "plan.not-for-a-law",
            f"The run {why}.",
            where=str(job.run.path),
            mend="Fit a law to finished runs without privacy.",
        )
    return scaling.Point(told["parameters"], told["tokens"], loss)
