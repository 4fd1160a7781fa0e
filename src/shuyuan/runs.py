"""Where a run lives: its folder, its recipe, its lock, and writes that are whole or not there at all."""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import filelock

from . import recipe as recipes
from .errors import RunError, cannot_write
from .recipe import Recipe

RECIPE_FILE = "recipe.toml"
LOCK_FILE = ".lock"
ORIGINAL = "original"  # the variant that nothing was done to
COMPRESSED = "compressed"


class Run:
    """One run folder. It says where things are; `vault.Store` reads and writes them.

    Args:
        path: the folder.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    @property
    def name(self) -> str:
        """The folder's own name."""
        return self.path.name

    @property
    def exists(self) -> bool:
        """Whether the folder holds a run: a recipe as resolved."""
        return (self.path / RECIPE_FILE).is_file()

    def recipe(self) -> Recipe:
        """The recipe as resolved so far.

        Raises:
            RunError: the folder is not a run.
        """
        if not self.exists:
            raise RunError(
                "run.not-a-run",
                "This is no run's folder.",
                where=str(self.path),
                mend=f"Give a folder that has a {RECIPE_FILE}, such as runs/NAME, or start one with: shuyuan run RECIPE",
            )
        return recipes.load(self.path / RECIPE_FILE)

    def check_same(self, asked: Recipe) -> None:
        """Refuses a recipe that asks for something else than the run was made with.

        Args:
            asked: the recipe that is given now.

        Raises:
            RunError: with the difference, one line a key.
        """
        lines = recipes.differences(self.recipe(), asked)
        if lines:
            raise RunError(
                "run.other-recipe",
                "A run belongs to one recipe, and this one differs:\n  " + "\n  ".join(lines),
                where=str(self.path),
                mend="Choose another folder with --out, or undo the change.",
            )

    @contextmanager
    def lock(self, verb: str) -> Iterator[str | None]:
        """Holds the run for one writer; the second one is told who has it.

        Args:
            verb: what is being done, for whoever comes second.

        Yields:
            Who held it before and never let go, since that process was killed; None if nobody did.

        Raises:
            RunError: another process holds the run.
            MachineError: the folder cannot be written.
        """
        file = self.path / LOCK_FILE
        lock = filelock.FileLock(file, blocking=False)
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            lock.acquire()
        except filelock.Timeout:
            raise RunError(
                "run.locked",
                f"Another process is at work on this run ({_owner_of(file) or 'owner unknown'}).",
                where=str(self.path),
                mend="Wait for it, or stop it; its state is saved when it is interrupted.",
            ) from None
        except OSError as error:
            raise cannot_write(error, self.path) from None
        try:
            killed = _owner_of(file)
            owner = {
                "verb": verb,
                "pid": os.getpid(),
                "host": platform.node(),
                "since": time.strftime("%F %T"),
            }
            try:
                file.write_text(json.dumps(owner), encoding="utf-8")
            except OSError as error:
                raise cannot_write(error, self.path) from None
            yield killed
        finally:
            try:
                with suppress(OSError):
                    file.write_text("", encoding="utf-8")
            finally:
                lock.release()

    def is_locked(self) -> bool:
        """Whether a process is at work on the run just now."""
        if not (self.path / LOCK_FILE).exists():
            return False
        lock = filelock.FileLock(self.path / LOCK_FILE, blocking=False)
        try:
            lock.acquire()
        except filelock.Timeout:
            return True
        lock.release()
        return False


def _owner_of(file: Path) -> str | None:
    """Who wrote into a lock file; None where nobody did, or only half."""
    try:
        owner = json.loads(file.read_text(encoding="utf-8"))
        return f"{owner['verb']}, process {owner['pid']} on {owner['host']}, since {owner['since']}"
    except (OSError, ValueError, KeyError, TypeError):
        return None


def not_prepared(path: Path) -> RunError:
    """The error of a verb that needs the shards of a run that has none yet.

    Args:
        path: the run's folder.
    """
    return RunError(
        "run.not-prepared",
        "The data is not prepared.",
        where=str(path),
        mend=f"Prepare it: shuyuan prepare {path}",
    )


def not_trained(path: Path) -> RunError:
    """The error of a verb that needs the model of a run that has none yet.

    Args:
        path: the run's folder.
    """
    return RunError(
        "run.not-trained",
        "There is no trained model yet.",
        where=str(path),
        mend=f"Train it: shuyuan train {path}",
    )


def no_variant(variant: str, there: Collection[str], path: Path) -> RunError:
    """The error of a verb that is asked for a variant that the run has not.

    Args:
        variant: the name that was asked for.
        there: the names that the run has.
        path: the run's folder.
    """
    return RunError(
        "run.no-variant",
        f"The run has no variant {variant[:40]}; it has: {', '.join(there)}.",
        where=str(path),
        mend=f"Name one of these, or make it: shuyuan compress {path} --quantize int8 --prune 0.5",
    )


def sync_folder(folder: Path) -> None:
    """Makes a rename in `folder` survive a power cut; a no-op where the platform cannot open folders.

    Args:
        folder: in which something was renamed.
    """
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def variant_folder(variant: str) -> str:
    """Where a variant of the model lies in the run folder.

    Args:
        variant: its name; "original" is the model as it was trained.
    """
    return "model" if variant == ORIGINAL else f"{COMPRESSED}/{variant}"


def variants_in(names: Collection[str]) -> list[str]:
    """The variants that a run has, the original first.

    Args:
        names: of all files of the run.
    """
    found = {
        name.split("/")[1] for name in names if name.startswith(f"{COMPRESSED}/") and name.count("/") > 1
    }
    trained = any(name.startswith("model/") for name in names)
    return [ORIGINAL, *sorted(found)] if trained else []
