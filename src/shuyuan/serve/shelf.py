"""The runs that are served: named, loaded when first asked for, and put away when memory is wanted for others."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from .. import hardware
from ..errors import ServeError
from ..models import cache_bytes
from ..pipeline import look
from ..retrieval import Index, is_index
from ..runs import ORIGINAL, not_trained, variant_folder, variants_in
from .indexes import TASK, load
from .limits import Line, too_many
from .settings import Limits
from .verbatim import Verbatim
from .worker import Worker

_log = logging.getLogger(__name__)
REPORT = "report.html"  # the public page; the internal one stays where it is
PLACES = 16  # texts that a model computes at once
OVERHEAD = (
    1.25  # what a loaded model takes beside its weights and the caches of texts: the tokenizer above all
)


@dataclass
class Model:
    """One model that can be asked: a run's, or a variant of it.

    Attributes:
        name: NAME, or NAME:VARIANT.
        path, key, variant: where it is, and what opens it.
        task: what the run is for.
        created: when the run was made, seconds since 1970.
        bytes: that it takes in memory, about.
        line: who waits for it.
        has_report: whether the run has a page to be shown.
        worker: while it is loaded.
        verbatim: what its answers may not repeat.
    """

    name: str
    path: Path
    key: str | None
    variant: str
    task: str
    created: int
    bytes: int
    line: Line
    has_report: bool = False
    worker: Worker | None = None
    verbatim: Verbatim | None = None
    users: int = 0
    used: float = 0.0
    loading: asyncio.Lock = field(default_factory=asyncio.Lock)


class Shelf:
    """All models of a server.

    Args:
        models: as `models_in` finds them.
        memory_bytes: that those may take together which are loaded; None: no bound.
        load: loads a run.
    """

    def __init__(
        self,
        models: Sequence[Model],
        memory_bytes: int | None = None,
        load: Callable[..., Any] = load,
    ) -> None:
        self.models = {model.name: model for model in models}
        self._memory_bytes = memory_bytes
        self._load = load
        self._room = asyncio.Lock()
        for model in models:
            if memory_bytes is not None and model.bytes > memory_bytes:
                raise ServeError(
                    "serve.no-memory",
                    f"{model.name} takes about {model.bytes:,} bytes, and {memory_bytes:,} are allowed.",
                    where=str(model.path),
                    mend="Allow more with --memory, or serve a smaller variant.",
                )

    def find(self, name: str) -> Model:
        """The model of that name. Names are looked up here alone, and lead to no path.

        Raises:
            ServeError: there is none.
        """
        model = self.models.get(name)
        if model is None:
            raise no_model(name)
        return model

    @asynccontextmanager
    async def worker(self, model: Model) -> AsyncIterator[Worker]:
        """The model, loaded; it stays so while it is used."""
        model.users += 1
        try:
            async with model.loading:
                if model.worker is None or model.worker.broken:
                    model.worker = await self._loaded(model)
            yield model.worker
        finally:
            model.users -= 1
            model.used = time.monotonic()

    async def close(self) -> None:
        """Puts everything away."""
        await asyncio.gather(*(self._put_away(model) for model in self.models.values()))

    async def _loaded(self, model: Model) -> Worker:
        async with self._room:
            await self._make_room(model)
            worker = Worker(partial(self._load, model.path, model.key, None, model.variant))
            try:
                await worker.ready
            except Exception as error:
                _log.error("%s cannot be loaded: %s", model.name, error)
                raise ServeError(
                    "serve.cannot-load",
                    "The model cannot be loaded now.",
                    status=500,
                    mend="Whoever runs the server can see why.",
                ) from None
        return worker

    async def _make_room(self, wanted: Model) -> None:
        """Puts away what was not used for the longest time, until a model fits."""
        if self._memory_bytes is None:
            return
        there = [model for model in self.models.values() if model.worker is not None and model is not wanted]
        idle = sorted((model for model in there if not model.users), key=lambda model: model.used)
        over = sum(model.bytes for model in there) + wanted.bytes - self._memory_bytes
        while over > 0 and idle:
            gone = idle.pop(0)
            over -= gone.bytes
            await self._put_away(gone)
        if over > 0:
            raise too_many("memory", 5.0)

    async def _put_away(self, model: Model) -> None:
        worker, model.worker = model.worker, None
        if worker is not None:
            await worker.close()


def models_in(runs: Sequence[Path], key: str | None, limits: Limits) -> list[Model]:
    """Every model of some runs, and indexes beside them; a folder's name is theirs.

    Args:
        runs: the folders.
        key: where the vaults' key is, instead of where their recipes say.
        limits: of those who wait.

    Raises:
        ServeError: two have one name.
        RunError: a run has no model yet.
        VaultError: one does not open.
    """
    models: dict[str, Model] = {}
    for path in runs:
        for model in [_index(path, key, limits)] if is_index(path) else _variants(path, key, limits):
            if model.name in models:
                raise ServeError(
                    "serve.same-name",
                    f"Two folders are called {model.name}.",
                    where=str(path),
                    mend="Rename one of them.",
                )
            models[model.name] = model
    return list(models.values())


def _variants(path: Path, key: str | None, limits: Limits) -> list[Model]:
    with look(path, key) as job:
        names = job.store.names()
        variants = variants_in(names)
        if not variants:
            raise not_trained(path)
        return [
            Model(
                name=path.resolve().name + ("" if variant == ORIGINAL else f":{variant}"),
                path=path,
                key=key,
                variant=variant,
                task=job.recipe.task,
                created=int((path / "recipe.toml").stat().st_mtime),
                bytes=_bytes(job.store, variant_folder(variant), names) + _cache_bytes(job, variant),
                line=Line(PLACES, limits),
                has_report=REPORT in names,
            )
            for variant in variants
        ]


def _index(path: Path, key: str | None, limits: Limits) -> Model:
    Index(path, key)  # whether it opens
    size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    created = int(path.stat().st_mtime)
    return Model(
        path.resolve().name, path, key, ORIGINAL, TASK, created, int(size * OVERHEAD), Line(PLACES, limits)
    )


def _bytes(store: Any, folder: str, names: Sequence[str]) -> int:
    total = 0
    for name in names:
        if name.startswith(f"{folder}/"):
            with store.open(name) as reader:
                total += reader.size
    return int(total * OVERHEAD)


def _cache_bytes(job: Any, variant: str) -> int:
    precision = hardware.choose_precision(job.recipe.train.precision, hardware.detect())
    return cache_bytes(job.store, variant_folder(variant), PLACES, precision)


def no_model(name: str) -> ServeError:
    """The refusal of a name that no model has, or none that the key is granted."""
    shown = name[:64].encode("unicode_escape").decode()
    return ServeError(
        "serve.no-model",
        f"There is no model `{shown}` for this key.",
        where="model",
        status=404,
        mend="/v1/models lists them.",
    )
