"""The clean records of everything that a recipe reads, in one fixed order that each pass over them repeats."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from ..errors import DataError
from ..recipe import Recipe
from ..tasks import task_named
from .clean import Cleaner
from .sources import Fact, Skipped, Source, Wanted, open_source
from .split import TEST, TRAIN, VALIDATION


class Record(NamedTuple):
    """A clean record.

    Attributes:
        text: its text.
        owner: whom it is about; None: itself.
        part: which of the recipe's sources it comes from.
        label: its label, as it stands there; None for a task without labels.
        where: file and line.
    """

    text: str
    owner: bytes | None
    part: int
    label: str | None
    where: str


class Records:
    """Opens the recipe's source and its separate validation and test files, and reads them record by record.

    Args:
        recipe: what to read and how to clean it.

    Attributes:
        contiguous: whether the source is one text, cut into blocks, so that place and not owner decides the split.
        changed: records that cleaning changed, in the last pass.

    Raises:
        DataError: a source is not there or empty, two of them are the same file, or owners are asked of a single text.
    """

    def __init__(self, recipe: Recipe) -> None:
        data = recipe.data
        self._task = task_named(recipe.task)
        self._fields = {"text": data.text} | ({"label": data.label} if data.label else {})
        columns = [*self._task.columns(self._fields), *([data.owner] if data.owner else [])]
        wanted = Wanted(data.text, tuple(dict.fromkeys(columns)), data.record)
        self._parts: dict[int, Source] = {TRAIN: open_source(data.source, wanted)}
        for part, share in ((VALIDATION, data.validation), (TEST, data.test)):
            if isinstance(share, str):
                self._parts[part] = open_source(share, wanted)
        # A built-in source's own owner column holds for its rows alone: a separate file beside it has other columns.
        self._owner = {part: data.owner or source.owner for part, source in self._parts.items()}
        self._limits = (data.min_chars, data.max_chars)
        self.contiguous = self._parts[TRAIN].contiguous
        self.changed = 0
        self._check_apart()
        if self.contiguous and data.owner:
            raise DataError(
                "data.one-text-no-owners",
                "`data.owner` names a column, but a single text without `data.record` has no records to own.",
                where="data.owner",
                mend='Say what a record is, such as data.record = "paragraph", or leave `data.owner` out.',
            )

    def _check_apart(self) -> None:
        seen: set[str] = set()
        for source in self._parts.values():
            paths = {fact.path for fact in source.facts()}
            if both := sorted(seen & paths):
                raise DataError(
                    "data.same-file",
                    "The same file is given for training and for holding out, or for both held-out splits.",
                    where=both[0],
                    mend="Name another file, or give `data.validation` and `data.test` as shares, such as 0.1.",
                )
            seen |= paths

    @property
    def total_bytes(self) -> int | None:
        """Bytes that a pass reads, or None where nobody knows."""
        sizes = [source.total_bytes for source in self._parts.values()]
        return None if None in sizes else sum(size or 0 for size in sizes)

    @property
    def position(self) -> int:
        """Bytes that the pass under way has read."""
        return sum(source.position for source in self._parts.values())

    def facts(self) -> list[Fact]:
        """The facts of every file, as they are now."""
        return [fact for source in self._parts.values() for fact in source.facts()]

    def each(self, skipped: Skipped) -> Iterator[Record]:
        """One pass over all records; what is left out is counted in `skipped` by reason.

        Raises:
            DataError: with file and line, where a record cannot be read.
        """
        self.changed = 0
        for part, source in self._parts.items():
            # Blocks of one text are no records of their own, so the limits on a record's length do not apply to them.
            cleaner = Cleaner(1, None) if source.contiguous else Cleaner(*self._limits)
            for row in source.rows(skipped):
                if row.values.get(self._fields["text"], "") is None:
                    skipped["records without text"] += 1
                    continue
                example = self._task.example(row.values, self._fields, row.where)
                if example.label == "":
                    skipped["records without a label"] += 1
                    continue
                text = cleaner(example.text, skipped)
                if text is not None:
                    owner = self._owner_of(row.values, row.where, self._owner[part])
                    yield Record(text, owner, part, example.label, row.where)
            self.changed += cleaner.changed

    def _owner_of(self, values: Mapping[str, Any], where: str, column: str | None) -> bytes | None:
        if column is None:
            return None
        if column not in values:
            raise DataError(
                "data.no-column",
                f"There is no column `{column}`.",
                where=where,
                mend=f"Name one of these as `data.owner`: {', '.join(map(str, values))}.",
            )
        owner = values[column]
        if owner is None or owner == "":
            raise DataError(
                "data.no-owner",
                f"The column `{column}` is empty here, so nobody knows whom the record is about.",
                where=where,
                mend="Fill it in, take the record out, or leave `data.owner` out.",
            )
        return str(owner).encode("utf-8", "surrogatepass")
