"""The ledger of a data set: what all runs on the same records have spent together, kept outside of their folders.

An open journal, $SHUYUAN_HOME/ledgers/ID.jsonl, repeats every entry of each run's own ledger and says where that run lies. So
a run that is deleted, copied, renamed or broken off changes no sum. It holds public numbers, names of columns and paths
of runs, and no record, owner or loss. Runs share no key: its chain detects accidents and no attacker, and a file that is
taken away whole is missed only by the runs that are still there.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import secrets
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from glob import glob
from pathlib import Path, PurePath
from typing import Any

import filelock

from ..errors import MachineError, PrivacyError, VaultError
from ..progress import Progress
from ..recipe import BUILT_IN_SOURCES, Recipe
from ..vault import Journal, OpenStore, Store, disk
from .ledger import LEDGER_FILE, NOT_COVERED, UNPROTECTED_MEANS, spent

PATIENCE = 60.0  # seconds; a writer holds the lock for the time of one line
# Among what is not covered: runs that protect something else, and runs on the same source under another id.
OTHER_UNIT, OTHER_ID = "unit", "id"
_ABOUT = ("run", "unit_by", "source", "time")  # what an entry has here and not in its run's own ledger
Entry = dict[str, Any]


def data_set_id(recipe: Recipe) -> str:
    """`data.id`; left out, a name that follows from where the records really lie, links followed.

    Args:
        recipe: of the run.
    """
    return recipe.data.id or _source_id(recipe)


def same_records(one: Recipe, other: Recipe) -> bool:
    """Whether two recipes name one data set, or one source, or sources that share a file.

    Args:
        one: a recipe.
        other: another.
    """
    if data_set_id(one) == data_set_id(other) or _source_id(one) == _source_id(other):
        return True
    return bool(files_named(_sources(one)) & files_named(_sources(other)))


def files_named(places: Iterable[str]) -> set[Path]:
    """All files that there are at some places, links followed.

    Args:
        places: files, folders and patterns, as a recipe names them; names of other sources have none.
    """
    paths = [path for place in places if _is_path(place) for path in _there(place)]
    inside = (file for path in paths for file in (path.rglob("*") if path.is_dir() else [path]))
    return {file.resolve() for file in inside if file.is_file()}


def _there(place: str) -> list[Path]:
    names = [place] if Path(place).exists() else glob(place, recursive=True)  # noqa: PTH207 - places are absolute
    return [Path(name) for name in names]


def _sources(recipe: Recipe) -> list[str]:
    source = recipe.data.source
    return source if isinstance(source, list) else [source]


def _source_id(recipe: Recipe) -> str:
    places = sorted({_place(one) for one in _sources(recipe)})
    if len(places) == 1 and places[0] in BUILT_IN_SOURCES:
        return places[0]
    name = re.sub(r"[^A-Za-z0-9]+", "-", PurePath(places[0]).stem).strip("-")[:40]
    digest = hashlib.sha256("\n".join(places).encode("utf-8", "surrogatepass")).hexdigest()
    return f"{name or 'data'}-{digest[:12]}"


def _place(source: str) -> str:
    return str(Path(source).resolve()) if _is_path(source) else source


def _is_path(source: str) -> bool:
    return not (source in BUILT_IN_SOURCES or source.startswith("hf:") or "\0" in source)


def folder() -> Path:
    """Where the ledgers lie: $SHUYUAN_HOME/ledgers, else $XDG_DATA_HOME/shuyuan/ledgers, by default under ~/.local/share."""
    home = os.environ.get("SHUYUAN_HOME")
    if home:
        return Path(home).expanduser() / "ledgers"
    return Path(os.environ.get("XDG_DATA_HOME") or "~/.local/share").expanduser() / "shuyuan" / "ledgers"


@dataclass(frozen=True)
class Together:
    """What all runs on a data set come to.

    Attributes:
        id: the data set's.
        unit: what the sum protects; None where no run is private.
        epsilon: of all private runs with that unit; infinite if some step had no noise.
        delta: the smallest that one of them was stated for.
        runs: how many there are, private or not, finished or not, still there or not.
        unprotected: how many of them were trained without privacy.
        uncovered: names of what no ε covers, in any of the runs.
    """

    id: str
    unit: str | None
    epsilon: float
    delta: float
    runs: int
    unprotected: int
    uncovered: list[str]

    def to_json(self) -> Entry:
        """As `info --json` prints it; ε is null where nothing bounds it, or no run is private."""
        bounded = self.unit is not None and math.isfinite(self.epsilon)
        table = {key: value for key, value in asdict(self).items() if key != "unprotected"}
        return table | {
            "epsilon": self.epsilon if bounded else None,
            "delta": self.delta if self.unit else None,
        }


class DataSetLedger:
    """The journal of a data set, as one of its runs or loops writes to it; several processes may at once.

    Args:
        id: the data set's.
        writer: says which run it is: its folder.
        source: where the records lie, so that the same ones are found under another id.
        unit: what the writer protects; None if it does not.
        unit_by: what makes a unit: the column of owners, or what a record is.

    Attributes:
        id: the data set's.
        path: the file.

    Raises:
        PrivacyError: (from every method) the file is damaged, or cannot be read or written.
    """

    def __init__(self, id: str, *, writer: str, source: str, unit: str | None, unit_by: str | None) -> None:
        self.id = id
        try:
            self.path = folder() / f"{id}.jsonl"
        except RuntimeError:
            raise self._unusable("there is no home folder", "~") from None
        self._protects = (unit, unit_by)
        self._about = {"run": writer, "unit_by": unit_by, "source": source}

    @classmethod
    def of_run(cls, recipe: Recipe, run: Path) -> DataSetLedger:
        """As the run of a recipe writes to it.

        Args:
            recipe: of the run.
            run: its folder.
        """
        unit = recipe.privacy.unit if recipe.privacy else None
        by = {"owner": recipe.data.owner, "record": recipe.data.record, None: None}[unit]
        writer, source = str(run.absolute()), _source_id(recipe)
        return cls(data_set_id(recipe), writer=writer, source=source, unit=unit, unit_by=by)

    def append(self, entry: Entry) -> None:
        """Adds one line of the run's own ledger; it is on disk when this returns.

        Args:
            entry: as it stands there.

        Raises:
            PrivacyError: the ledger of the data set cannot be written.
        """
        with self._locked():
            self._journal().append(entry | self._about | {"time": round(time.time())})

    def entries(self) -> Iterator[Entry]:
        """Every line, oldest first."""
        with self._explained():
            return iter(list(self._journal().entries()))

    def check_writable(self) -> None:
        """Refuses before the first step what would fail at the first checkpoint."""
        with self._locked(), self.path.open("ab"):
            pass

    def lacking(self, own: Iterable[Entry]) -> list[Entry]:
        """The entries of a run's own ledger that do not stand here.

        Args:
            own: all of that ledger.
        """
        known = {_bare(entry) for entry in self.entries()}
        return [entry for entry in own if _bare(entry) not in known]

    def other_ids(self) -> list[str]:
        """Other data sets whose ledgers have runs on the very same source: a name that was changed hides no run."""
        mark = f'"source": {json.dumps(self._about["source"])}'
        with self._explained():
            others = [file for file in sorted(self.path.parent.glob("*.jsonl")) if file != self.path]
            return [file.stem for file in others if mark in file.read_text("utf-8", "replace")]

    def together(self, own: Iterable[Entry] = ()) -> Together:
        """Adds up what stands here.

        Args:
            own: entries of the run's own ledger, which count too, should they be missing here. Default none.
        """
        entries = [*self.entries(), *(entry | self._about for entry in own)]
        steps = [entry for entry in entries if entry["event"] == "steps"]
        wanted = self._protects if self._protects[0] or not steps else _protected(steps[-1])
        ours = [entry for entry in entries if entry["event"] != "steps" or _protected(entry) == wanted]
        total = spent(ours)
        runs, unprotected = (_runs(entries, kinds) for kinds in (("steps", "training"), ("training",)))
        other = [OTHER_UNIT] if len(ours) < len(entries) else []
        other += [OTHER_ID] if self.other_ids() else []
        return Together(
            self.id,
            wanted[0] if total.steps else None,
            total.epsilon,
            total.delta,
            len(runs),
            len(unprotected),
            total.uncovered + other,
        )

    # -- the file --

    def _journal(self) -> Journal:
        """A new one each time: others may have written meanwhile, and the chain goes on from the last line."""
        return OpenStore(self.path.parent, writable=False).journal(self.path.name)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with self._explained():
            disk.make_folder(self.path.parent)
            with filelock.FileLock(self.path.with_suffix(".lock"), timeout=PATIENCE):
                yield

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except filelock.Timeout:
            raise self._unusable("another process holds its lock", str(self.path)) from None
        except OSError as error:
            raise self._unusable(error.strerror or type(error).__name__, str(self.path)) from None
        except (MachineError, VaultError) as error:
            raise self._unusable(error.what, error.where or str(self.path)) from None

    def _unusable(self, why: str, where: str) -> PrivacyError:
        return PrivacyError(
            "privacy.no-ledger",
            f"The ledger of the data set {self.id} cannot be used: {why.rstrip('.')}.",
            where=where,
            mend="Restore it from a copy if it is damaged; see that it can be written, or name the folder that is to hold "
            "ledgers with SHUYUAN_HOME. A private run needs it, so that runs on the same records add up.",
        )


def enter(recipe: Recipe, store: Store, progress: Progress) -> None:
    """Brings a run into the ledger of its data set before it trains, and says what else stands there.

    A run without privacy gets its one entry, and whatever the run's own ledger has and the data set's lacks is entered again.

    Args:
        recipe: of the run.
        store: of the run, with its own ledger.
        progress: is told what else stands there.

    Raises:
        PrivacyError: the run is private, and the ledger cannot be used.
    """
    try:
        shared = DataSetLedger.of_run(recipe, store.path)
        _enter(recipe, shared, store.journal(LEDGER_FILE), progress)
    except PrivacyError as error:
        if recipe.privacy is not None:
            raise
        progress.say(
            "privacy.not-noted",
            f"{error.what} So later private runs on the same records will not say that this one, which is not private, was made.",
        )


def _enter(recipe: Recipe, shared: DataSetLedger, journal: Journal, progress: Progress) -> None:
    own = list(journal.entries())
    lacking = shared.lacking(own)
    for entry in lacking:
        shared.append(entry)
    if lacking:
        progress.say(
            "privacy.entered-again",
            f"The ledger of the data set {shared.id} lacked {len(lacking)} entries of this run and has them now. If it was lost, "
            f"other runs are missing there too: `shuyuan train RUN` enters each that is left ({shared.path}).",
        )
    if recipe.privacy is None and not own:
        entry = {"event": "training", "cost": NOT_COVERED, "meaning": UNPROTECTED_MEANS}
        entry |= {"draws": secrets.token_hex(16)}  # of no use but to tell this run from others
        for each in (shared, journal):
            each.append(entry)
    if recipe.privacy is not None:
        _say_others(recipe, shared, own, progress)


def note_free(recipe: Recipe, store: Store, event: str, what: str, meaning: str) -> None:
    """Notes once, in a run's ledgers, something that follows from what was released already, and so costs no ε.

    Args:
        recipe: of the run, which stands in the ledger of its data set.
        store: the run's files.
        event: what kind of thing it is.
        what: which one.
        meaning: what it was made from, in words.

    Raises:
        PrivacyError: the ledger of its data set cannot be used.
    """
    journal = store.journal(LEDGER_FILE)
    own = list(journal.entries())
    if any((entry["event"], entry.get("what")) == (event, what) for entry in own):
        return
    entry = {"event": event, "what": what, "cost": "none", "meaning": meaning, "draws": own[0]["draws"]}
    for each in (DataSetLedger.of_run(recipe, store.path), journal):
        each.append(entry)


def _say_others(recipe: Recipe, shared: DataSetLedger, own: list[Entry], progress: Progress) -> None:
    if ids := shared.other_ids():
        progress.say(
            "privacy.other-ids",
            f"The same source was trained on under another data.id ({', '.join(ids)}); the sum of {shared.id} leaves these runs out.",
        )
    others = _runs(shared.entries(), ("steps", "training")) - {entry["draws"] for entry in own}
    if not others:
        return
    text = f"Other runs on the data set {shared.id}: {len(others)}. What this run costs adds to them; `shuyuan info` shows the sum."
    assert recipe.privacy is not None
    if "tuning" not in recipe.privacy.allow:
        text += (
            " Were settings of this run chosen by their losses or scores, then that choice tells of the records, and no ε covers "
            'it: privacy.allow = ["tuning"] says so in the ledger and the guarantee.'
        )
    progress.say("privacy.other-runs", text)


def together(recipe: Recipe, store: Store) -> Together | None:
    """What all runs on a run's data set have spent; None for a run that is not private where the ledger cannot be read.

    Args:
        recipe: of the run.
        store: of the run.

    Raises:
        PrivacyError: the run is private, and the ledger cannot be read.
    """
    own = store.journal(LEDGER_FILE).entries() if store.exists(LEDGER_FILE) else iter(())
    try:
        return DataSetLedger.of_run(recipe, store.path).together(own)
    except PrivacyError:
        if recipe.privacy is not None:
            raise
        return None


def _bare(entry: Entry) -> str:
    return json.dumps({key: value for key, value in entry.items() if key not in _ABOUT}, sort_keys=True)


def _protected(entry: Entry) -> tuple[Any, Any]:
    """What an entry's ε is about. The same word may mean different things: owners by one column or another, records of a
    file or of a line."""
    return entry["unit"], entry.get("unit_by")


def _runs(entries: Iterable[Entry], kinds: tuple[str, ...]) -> set[str]:
    return {str(entry["draws"]) for entry in entries if entry["event"] in kinds}
