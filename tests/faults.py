"""A life of a run from preparation to export, and how to break it off: by death, or by a disk that refuses."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import safetensors.numpy

from shuyuan import pipeline, vault
from shuyuan.runs import Run
from tests.runs import write_recipe
from tests.vault.crashes import at_every_step

KEY = "SHUYUAN_TEST_KEY"
SECRET = vault.new_key()
VERBS = ("prepare", "train", "compress", "evaluate", "export")


class Death(BaseException):
    """kill -9: nothing that comes after it reaches the disk, since every later step meets it too."""


@contextmanager
def from_step(first: int, fate: Callable[[], BaseException]) -> Iterator[None]:
    """Raises what `fate` makes at the step `first` on the disk of the work inside, and at all later ones."""
    left = first

    def look(step: str) -> None:
        nonlocal left
        left -= 1
        if left < 0 and step != "the end":
            raise fate()

    with at_every_step(look):
        hooked = os.fsync

        def fsync(handle: int) -> None:
            if left == 0 and fate is Death:
                _cut(handle)
            hooked(handle)

        os.fsync = fsync
        yield


def _cut(handle: int) -> None:
    """Has only a part of what was just written reach the disk. Of sealed files `at_every_step` does so."""
    path = Path(f"/proc/self/fd/{handle}").readlink()
    if path.is_file() and path.suffix not in ("", ".index"):
        size = path.stat().st_size
        with open(path, "r+b") as file:  # noqa: PTH123 - not the one that is watched
            file.truncate(max(size - 5, 0) if path.suffix == ".jsonl" else size // 2)


def refusal(number: int) -> Callable[[], OSError]:
    """What the system says: errno.ENOSPC, errno.EROFS, errno.EACCES."""
    return lambda: OSError(number, os.strerror(number))


def tiny(folder: Path, kind: str, steps: int = 6) -> Path:
    """A recipe of a kind of run: "open", "sealed" or "private"."""
    folder.mkdir(parents=True, exist_ok=True)
    more = {"compress": 'quantize = "int8"'}
    if kind == "private":
        more["privacy"] = 'noise_multiplier = 1.0\nunit = "record"\ninsecure_seed = 7'
        more["data"] = 'duplicates = "keep"'
    return write_recipe(folder, sealed=kind == "sealed", steps=steps, **more)


def do(verb: str, recipe: Path, out: Path) -> None:
    """What the command of that name does, for a run that came as far as that."""
    with pipeline.begin(recipe, verb, out=out) as job:
        if verb == "prepare":
            pipeline.make_plan(job)
            pipeline.prepare(job)
        elif verb == "train":
            pipeline.train_model(job)
        elif verb == "compress":
            pipeline.compress_model(job)
        elif verb == "evaluate":
            pipeline.evaluate_model(job)
        elif not exported(out).exists():
            pipeline.export(job, exported(out), in_the_clear=True)


def session(verb: str, recipe: Path, out: Path, environment: dict[str, str]) -> None:
    """The same in a process of its own."""
    os.environ.update(environment)
    do(verb, recipe, out)


def live(recipe: Path, out: Path) -> None:
    """All verbs in a row; what is done already costs nothing."""
    for verb in VERBS:
        do(verb, recipe, out)


def exported(out: Path) -> Path:
    """Where the life of a run puts its export."""
    return out.with_name(f"{out.name}-export")


def outcome(out: Path) -> dict[str, bytes]:
    """All that a run came to and that is the same whenever it is made: not times, places, secrets and what tells of them."""
    recipe = Run(out).recipe()
    with vault.open_store(Run(out), recipe.vault and recipe.vault.key, writable=False) as store:
        assert store.verify() == []
        newest = max((name.rpartition("/")[0] for name in store.names("checkpoints/")), default="checkpoints")
        found = {
            name: _known(name, store.read(name))
            for name in store.names()
            if _lasts(name) and (name.startswith(newest) or not name.startswith("checkpoints/"))
        }
        manifest = store.read_json("data/manifest.json")
        for key in ("seconds", "fingerprint", "source", "settings"):
            del manifest[key]
        for split in manifest["splits"].values():
            del split["shards"]  # digests of what is compared, and of owners
        found["data/manifest.json"] = json.dumps(manifest).encode()
    return found | {
        f"export/{file.relative_to(exported(out)).as_posix()}": file.read_bytes()
        for file in exported(out).rglob("*")
        if file.is_file() and file.suffix != ".md"
    }


def _known(name: str, data: bytes) -> bytes:
    """Content without what depends on a secret: whose the records of a shard are."""
    if not name.endswith(".shard"):
        return data
    arrays = safetensors.numpy.load(data)
    return b"".join(arrays[each].tobytes() for each in sorted(arrays) if each != "owners")


def _lasts(name: str) -> bool:
    room, _, file = name.partition("/")
    return (
        name in ("scores.json", "samples.json", "data/tokenizer.json")
        or file.endswith((".shard", ".safetensors"))
        or (room in ("model", "compressed") and not file.endswith(".md"))
    )
