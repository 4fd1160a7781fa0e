"""What preparation will find, guessed from the source's size and its first records, before anything is prepared."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass

from ..data import ImageFacts, Manifest, load_task
from ..data.encoding import answer_bytes
from ..data.manifest import Pair, Split, TokenizerFacts
from ..data.records import open_records
from ..data.sources import Skipped, Source, Wanted, WantedImages, open_source
from ..data.tokenizer import given_tokenizer
from ..data.widths import WIDTHS
from ..recipe import Data, Recipe
from ..sizes import size
from ..tasks import task_named
from ..tasks.packing import all_words, unpacked

SAMPLE_CHARACTERS = 500_000
# Of records with prompts more: how long rows are shapes batch and memory, and files of pairs are often sorted by length.
SAMPLE_PROMPTS = 4_000_000
UNKNOWN_BYTES = 100_000_000  # of a source on the hub: a plan asks nobody outside this machine
UNKNOWN_IMAGES, UNKNOWN_IMAGE = 50_000, ImageFacts(64, 64, 3)  # the same of images
COUNTED_IMAGES = 200  # that tell how many the rest of a table is
MOST_BPE_BYTES = 4.5  # bytes of text a token; larger vocabularies gain little


@dataclass(frozen=True)
class Sample:
    """The first records of a source.

    Attributes:
        texts: their texts; of records with prompts, all that stands in their rows.
        text_bytes: in UTF-8.
        read_bytes: of the source, that were read for them.
        total_bytes: of the source.
        rows: of records with prompts.
        learned_bytes: of their answers.
        lengths: bytes of the rows of each record that has prompts, together; none where not all were read.
    """

    texts: list[str]
    text_bytes: int
    read_bytes: int
    total_bytes: int
    rows: int = 0
    learned_bytes: int = 0
    lengths: tuple[int, ...] = ()

    @property
    def scale(self) -> float:
        """How many times the sample the whole source is."""
        return max(1.0, self.total_bytes / max(1, self.read_bytes))


def estimated_manifest(recipe: Recipe) -> tuple[Manifest, list[str]]:
    """A manifest as preparation may write it, and sentences that say how it was guessed.

    Duplicates and records that will be left out are not foreseen, so that the guess is rather high.

    Raises:
        DataError: the source, a file for holding out, or the tokenizer to use is not there or cannot be read.
    """
    if recipe.images:
        return estimated_images(recipe)
    _check_held_out(recipe.data)
    if _is_remote(recipe.data.source):
        sample = Sample([], UNKNOWN_BYTES, UNKNOWN_BYTES, UNKNOWN_BYTES)
        how = f"The size of {recipe.data.source} is unknown before it is fetched; 100 MB of text are assumed."
    else:
        sample = take_sample(recipe)
        how = (
            f"Tokens are guessed from the source's {size(sample.total_bytes)} "
            f"and the first {len(sample.texts):,} records; duplicates are not foreseen."
        )
    vocab_size, text_bytes_per_token = _tokenizer(recipe, sample)
    text_bytes = sample.text_bytes * sample.scale
    records, rows = len(sample.texts) * sample.scale, sample.rows * sample.scale
    each = max(1.0, sample.rows / max(1, len(sample.texts)))  # rows of a record
    lengths = [length / each / text_bytes_per_token for length in sample.lengths]
    tokens = text_bytes / text_bytes_per_token + records
    if lengths:  # what is longer than the context is cut
        tokens *= sum(min(length, recipe.model.context) for length in lengths) / sum(lengths)
    splits = {
        name: Split(
            records=math.ceil(records * share),
            owners=math.ceil(records * share),
            tokens=math.ceil(tokens * share),
            text_bytes=math.ceil(text_bytes * share),
            shards=[],
            rows=math.ceil(rows * share),
            learned=math.ceil((sample.learned_bytes * sample.scale / text_bytes_per_token + rows) * share),
            widths=_widths(lengths, rows * share),
        )
        for name, share in _shares(recipe.data).items()
    }
    manifest = Manifest(
        splits,
        vocab_size,
        TokenizerFacts(recipe.tokenizer.kind, "", 0, pair=_pair(recipe)),
        labels=_labels(recipe),
    )
    return manifest, [how]


def _check_held_out(data: Data) -> None:
    """Opens the files for validation and test, which the guess itself does not read, so that a missing one is told at once."""
    for place in (data.validation, data.test):
        if isinstance(place, str) and not _is_remote(place):
            open_source(place, Wanted(data.text, (data.text,), data.record))


def estimated_images(recipe: Recipe) -> tuple[Manifest, list[str]]:
    """The same of images: their shape, and how many of them the files say that they hold."""
    assert recipe.data.image is not None and recipe.data.label is not None  # the recipe fills them in
    if _is_remote(recipe.data.source):
        image, counts = _asked_shape(recipe.data), {"train": UNKNOWN_IMAGES}
        how = f"How many images {recipe.data.source} has is unknown before it is fetched; {UNKNOWN_IMAGES:,} are assumed."
    else:
        found = open_records(recipe).image
        assert found is not None
        image, counts = found, _image_counts(recipe)
        how = f"The source has {counts['train']:,} images or a few less; duplicates are not foreseen."
    splits = {}
    for name, share in _shares(recipe.data, beside=0.0).items():
        count = counts[name] if name in counts and name != "train" else math.ceil(counts["train"] * share)
        splits[name] = Split(count, count, count, 0, [])
    return Manifest(splits, 0, None, labels=_labels(recipe), image=image), [how]


def _asked_shape(data: Data) -> ImageFacts:
    asked = data.image_size or [UNKNOWN_IMAGE.height, UNKNOWN_IMAGE.width]
    height, width = asked if isinstance(asked, list) else (asked, asked)
    return ImageFacts(height, width, data.channels or UNKNOWN_IMAGE.channels)


def _image_counts(recipe: Recipe) -> dict[str, int]:
    """Images of the source, and of each separate file for holding out."""
    data = recipe.data
    wanted = WantedImages(data.image or "", data.label or "", (data.image or "", data.label or ""))
    named = {"train": data.source, "validation": data.validation, "test": data.test}
    sources = {
        name: open_source(place, wanted) for name, place in named.items() if isinstance(place, str | list)
    }
    return {name: _image_count(source) for name, source in sources.items()}


def _image_count(source: Source) -> int:
    """Images of a source, from its header, or from how many bytes the first ones take."""
    if source.records is not None:
        return source.records
    seen = 0
    rows = source.rows(Skipped())  # held until the position is read
    for _ in rows:
        seen += 1
        if seen == COUNTED_IMAGES:
            break
    return round(seen * max(1.0, (source.total_bytes or 0) / max(1, source.position)))


def _labels(recipe: Recipe) -> list[str]:
    """The classes that a labelled task will tell apart; how many hardly matters, so two stand for those not named."""
    if task_named(recipe.task).output != "labels":
        return []
    return recipe.data.labels or ["0", "1"]


def _pair(recipe: Recipe) -> Pair | None:
    """What will stand around a question and a text, where answers are places in it: as BERT has it."""
    return [[0], [0], [0]] if load_task(recipe).output == "spans" else None


def take_sample(recipe: Recipe) -> Sample:
    """Reads the first half million characters of a source."""
    if task_named(recipe.task).prompted:
        return _sample_of_prompts(recipe)
    data = recipe.data
    source = open_source(data.source, Wanted(data.text, (data.text,), data.record))
    texts: list[str] = []
    room = SAMPLE_CHARACTERS
    rows = source.rows(Skipped())  # held until the position is read: closing it skips to the file's end
    for row in rows:
        text = row.values.get(data.text)
        if isinstance(text, str):
            texts.append(text)
            room -= len(text)
        if room <= 0:
            break
    read_bytes = source.position
    text_bytes = sum(len(text.encode("utf-8", "replace")) for text in texts)
    return Sample(texts, text_bytes, read_bytes, source.total_bytes or read_bytes)


def _sample_of_prompts(recipe: Recipe) -> Sample:
    records = open_records(recipe)
    texts, rows, learned_bytes, room = [], 0, 0, SAMPLE_PROMPTS
    each = records.each(Skipped())  # held until the position is read
    for record in each:
        content = str(record.content)
        examples = unpacked(content)
        rows += len(examples)
        learned_bytes += answer_bytes(examples)
        texts.append("".join(all_words(content)))
        room -= len(texts[-1])
        if room <= 0:
            break
    read_bytes = records.position
    text_bytes = sum(len(text.encode("utf-8", "replace")) for text in texts)
    lengths: tuple[int, ...] = ()
    if room > 0:  # the source was read whole; the rest of a longer one may hold longer rows
        lengths = tuple(len(text.encode("utf-8", "replace")) for text in texts)
    total_bytes = records.total_bytes or read_bytes
    return Sample(texts, text_bytes, read_bytes, total_bytes, rows, learned_bytes, lengths)


def _widths(tokens: list[float], rows: float) -> list[int]:
    """Rows of each width, as a split's `widths`, if their lengths are spread as those of some records."""
    count = Counter(max(1, math.ceil(each / WIDTHS)) for each in tokens)
    share = rows / max(1, len(tokens))
    return [math.ceil(count[width] * share) for width in range(1, max(count, default=0) + 1)]


def _shares(data: Data, beside: float = 0.1) -> dict[str, float]:
    """The share of the source that each split gets; a separate file is taken as a tenth of it, or as said."""
    asked = {"validation": data.validation, "test": data.test}
    inside = {name: share for name, share in asked.items() if isinstance(share, float)}
    apart = {name: beside for name, path in asked.items() if isinstance(path, str)}
    return {"train": max(0.0, 1 - sum(inside.values())), **inside, **apart}


def _tokenizer(recipe: Recipe, sample: Sample) -> tuple[int, float]:
    """(entries of the vocabulary, bytes of text a token)."""
    tokenizer = recipe.tokenizer
    if tokenizer.from_ is not None:
        given = given_tokenizer(tokenizer.from_)
        piece = "".join(sample.texts)[:100_000]
        tokens = len(given.encode(piece)) if piece else 0
        width = len(piece.encode("utf-8", "replace")) / tokens if tokens else _bpe_bytes(given.vocab_size)
        return given.vocab_size, width
    if tokenizer.kind == "bpe":
        entries = min(tokenizer.vocab_size, _bpe_entries(sample.text_bytes * sample.scale))
        return entries, _bpe_bytes(entries)
    if tokenizer.kind == "byte":
        return 257, 1.0
    characters = sum(map(len, sample.texts))
    return 257 + len(set().union(*sample.texts)), sample.text_bytes / characters if characters else 1.0


def _bpe_entries(text_bytes: float) -> int:
    """Entries of a vocabulary whose pieces all stand a few times in so much text; within a quarter on six texts of 30 kB to 6 MB."""
    return 257 + round(0.36 * math.pow(text_bytes, 0.68))


def _bpe_bytes(vocab_size: int) -> float:
    """Bytes of text a token of a learned vocabulary; about 2.7 at 1,024 entries, 3.4 at 4,096 and 4.5 at 32,768."""
    return max(1.0, min(MOST_BPE_BYTES, 0.35 * math.log2(vocab_size) - 0.8))


def _is_remote(source: str | list[str]) -> bool:
    return isinstance(source, str) and source.startswith("hf:")
