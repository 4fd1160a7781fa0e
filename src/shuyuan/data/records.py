"""The clean records of everything that a recipe reads, in one fixed order that each pass over them repeats."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any, NamedTuple

from ..errors import DataError, PrivacyError
from ..recipe import Recipe
from ..tasks import label_field
from ..tasks.base import Label
from ..tasks.packing import packed
from .clean import Cleaner
from .pixels import Fitter, image_field, shape_of
from .sources import Fact, ImageFacts, Row, Skipped, Source, Wanted, WantedImages, open_source
from .split import TEST, TRAIN, VALIDATION
from .templates import load_task


class Record(NamedTuple):
    """A clean record.

    Attributes:
        content: its text, packed where it has a prompt (tasks.packing), or the pixels of its image.
        owner: whom it is about; None: itself.
        part: which of the recipe's sources it comes from.
        label: its label, as it stands there, or all that it has; None for a task without labels.
        where: file and line.
    """

    content: str | bytes
    owner: bytes | None
    part: int
    label: Label | None
    where: str


def open_records(recipe: Recipe) -> Records:
    """The records that the recipe reads: texts, or images.

    Args:
        recipe: what to read.

    Raises:
        DataError: a source is not there or empty, two of them are the same file, or owners are asked of a single text.
        PrivacyError: the shape of images would be learned from private ones.
    """
    return (ImageRecords if recipe.images else TextRecords)(recipe)


class Records(ABC):
    """Opens the recipe's source and its separate validation and test files, and reads them record by record.

    Args:
        recipe: what to read.
        wanted: the columns of it.

    Attributes:
        contiguous: whether the source is one text, cut into blocks, so that place and not owner decides the split.
        plain: whether some of it is plain text, of which `data.record` says what one record is.
        changed: records that cleaning changed, in the last pass.
        image: the shape of all images; None for texts.
    """

    image: ImageFacts | None = None

    def __init__(self, recipe: Recipe, wanted: Wanted | WantedImages) -> None:
        data = recipe.data
        self._parts: dict[int, Source] = {TRAIN: open_source(data.source, wanted)}
        for part, share in ((VALIDATION, data.validation), (TEST, data.test)):
            if isinstance(share, str):
                self._parts[part] = open_source(share, wanted)
        # A built-in source's own owner column holds for its rows alone: a separate file beside it has other columns.
        self._owner = {part: data.owner or source.owner for part, source in self._parts.items()}
        self.contiguous = self._parts[TRAIN].contiguous
        self.plain = any(source.plain for source in self._parts.values())
        self.changed = 0
        self._check_apart()

    @abstractmethod
    def _cleaner(self, source: Source) -> Cleaner | Fitter:
        """What brings each record of a source into the form that is stored, and counts those that it changed."""

    def _rows(self, source: Source, skipped: Skipped) -> Iterator[Row]:
        """The rows of a source, one a record."""
        return source.rows(skipped)

    @abstractmethod
    def _content(self, row: Row, cleaner: Any, skipped: Skipped) -> tuple[str | bytes, Label | None] | None:
        """(content, label) of a row; None after counting in `skipped` why there is none."""

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
            cleaner = self._cleaner(source)
            for row in self._rows(source, skipped):
                found = self._content(row, cleaner, skipped)
                if found is not None:
                    content, label = found
                    owner = self._owner_of(row.values, row.where, self._owner[part])
                    yield Record(content, owner, part, label, row.where)
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
        if isinstance(owner, float) and owner.is_integer():
            owner = int(owner)  # 17.0 is what a table with gaps makes of 17
        if isinstance(owner, list | dict | bytes):
            raise DataError(
                "data.not-one-owner",
                f"The column `{column}` holds {type(owner).__name__} here, and an owner is one name or number.",
                where=where,
                mend="Name another column as `data.owner`, or make a record for each owner.",
            )
        if owner is None or owner != owner or not str(owner).strip():
            raise DataError(
                "data.no-owner",
                f"The column `{column}` is empty here, so nobody knows whom the record is about.",
                where=where,
                mend="Fill it in, take the record out, or leave `data.owner` out.",
            )
        return str(owner).encode("utf-8", "surrogatepass")


class TextRecords(Records):
    """Records of text, cleaned.

    Args:
        recipe: what to read and how to clean it.
    """

    def __init__(self, recipe: Recipe) -> None:
        data = recipe.data
        self._task = load_task(recipe)
        self._fields = recipe.columns
        self._limits = (data.min_chars, data.max_chars)
        columns = [*self._task.columns(self._fields), *([data.owner] if data.owner else [])]
        super().__init__(recipe, Wanted(data.text, tuple(dict.fromkeys(columns)), data.record))
        if self.contiguous and self._task.prompted:
            raise DataError(
                "data.no-table",
                f"The task {recipe.task} reads a table, and this is a single text.",
                where="data.source",
                mend=f"Name a .csv, .tsv, .jsonl, .json or .parquet file with {' and '.join(self._fields.values())}.",
            )
        if self.contiguous and data.owner:
            raise DataError(
                "data.one-text-no-owners",
                "`data.owner` names a column, but a single text without `data.record` has no records to own.",
                where="data.owner",
                mend='Say what a record is, such as data.record = "paragraph", or leave `data.owner` out.',
            )

    def _cleaner(self, source: Source) -> Cleaner:
        # Blocks of one text are no records of their own, so the limits on a record's length do not apply to them.
        return Cleaner(1, None) if source.contiguous else Cleaner(*self._limits)

    def _rows(self, source: Source, skipped: Skipped) -> Iterator[Row]:
        for values, where in source.rows(skipped):
            for record, place in self._task.records(values, self._fields, where):
                yield Row(record, place)

    def _content(self, row: Row, cleaner: Cleaner, skipped: Skipped) -> tuple[str, Label | None] | None:
        lacking = self._task.lacking(row.values, self._fields)
        if lacking is not None:
            skipped[f"records without {lacking}"] += 1
            return None
        if self._task.prompted:
            rows = self._task.examples(row.values, self._fields, row.where)
            examples = cleaner.examples(rows, skipped)
            return None if examples is None else (packed(examples), None)
        example = self._task.example(row.values, self._fields, row.where)
        if example.label == "":
            skipped["records without a label"] += 1
            return None
        text = cleaner(example.text, skipped)
        return None if text is None else (text, example.label)


class ImageRecords(Records):
    """Records of images, brought to one shape.

    Args:
        recipe: what to read, and which shape it wants.
    """

    def __init__(self, recipe: Recipe) -> None:
        data = recipe.data
        assert data.image is not None and data.label is not None  # the recipe fills them in
        self._column, self._label, self._wanted = data.image, data.label, (data.image_size, data.channels)
        columns = (data.image, data.label, *([data.owner] if data.owner else []))
        super().__init__(recipe, WantedImages(data.image, data.label, tuple(dict.fromkeys(columns))))
        if recipe.privacy is not None and None in self._wanted and self._parts[TRAIN].image is None:
            raise PrivacyError(
                "privacy.image-shape",
                "The size and the channels of the images would be taken from the first of them, which privacy does not cover.",
                where="data.image_size",
                mend="Name both: data.image_size = 32 and data.channels = 3, for example.",
            )

    @cached_property
    def image(self) -> ImageFacts:  # type: ignore[override]
        size, channels = self._wanted
        height, width = size if isinstance(size, list) else (size, size)
        if height and width and channels:
            return ImageFacts(height, width, channels)
        found = self._parts[TRAIN].image or self._first()
        return ImageFacts(height or found.height, width or found.width, channels or found.channels)

    def _first(self) -> ImageFacts:
        """The shape of the first image that can be read."""
        unread: Skipped = Skipped()
        for row in self._parts[TRAIN].rows(unread):
            pixels = image_field(row.values, self._column, row.where, unread)
            if pixels is not None:
                return shape_of(pixels)
        raise empty(unread)

    def _cleaner(self, source: Source) -> Fitter:
        return Fitter(self.image)

    def _content(self, row: Row, cleaner: Fitter, skipped: Skipped) -> tuple[bytes, Label] | None:
        label = label_field(row.values, self._label, row.where)
        if label == "":
            skipped["records without a label"] += 1
            return None
        pixels = image_field(row.values, self._column, row.where, skipped)
        return None if pixels is None else (cleaner(pixels), label)


def empty(skipped: Skipped) -> DataError:
    """The error for a source of which nothing could be used.

    Args:
        skipped: what was left out, and why.
    """
    left_out = ", ".join(f"{number:,} {reason}" for reason, number in skipped.items())
    return DataError(
        "data.empty",
        f"The source gives no record{f' ({left_out} left out)' if left_out else ''}.",
        where="data.source",
        mend="Check `data.source`, the columns that are named, and the length limits.",
    )
