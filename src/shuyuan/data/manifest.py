"""What was prepared: counts, digests and source facts, written last, so that it stands for a whole preparation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from ..tasks.base import Output
from ..vault import Store
from .sources import Fact, ImageFacts

MANIFEST_FILE = "data/manifest.json"
TOKENIZER_FILE = "data/tokenizer.json"


Pair = Sequence[Sequence[int]]


@dataclass(frozen=True)
class ShardFacts:
    """One shard.

    Attributes:
        name: in the run.
        records: how many.
        tokens: of images, the number of records.
        sha256: of its content, in hex.
    """

    name: str
    records: int
    tokens: int
    sha256: str


@dataclass(frozen=True)
class Split:
    """One split of the prepared records.

    Attributes:
        records: how many.
        owners: how many they are about; as many as records where no column names them.
        tokens: the end token of each record among them; of images, the number of records, since each has one target.
        text_bytes: in UTF-8, after cleaning and masking; of tasks with prompts, of the answers alone; of images 0.
        shards: in the order of the records.
        rows: of tasks with prompts; else 0.
        learned: targets in these rows; else 0.
        widths: rows of up to WIDTHS inputs, of more up to twice as many, and so on; else [].
    """

    records: int
    owners: int
    tokens: int
    text_bytes: int
    shards: list[ShardFacts]
    rows: int = 0
    learned: int = 0
    widths: list[int] = field(default_factory=list)


@dataclass(frozen=True)
class TokenizerFacts:
    """What the run's tokenizer is.

    Attributes:
        kind: byte, char or bpe.
        sha256: of its tokenizer.json.
        end_id: its end token.
        start_id: its start token; None where it has none.
        pair: of a task that looks for places in a text, the special tokens before, between and behind a question and the text.
    """

    kind: str
    sha256: str
    end_id: int
    start_id: int | None = None
    pair: Pair | None = None


@dataclass(frozen=True)
class Manifest:
    """Everything that is known of the prepared data.

    Attributes:
        splits: "train", "validation" and, where asked for, "test".
        vocab_size: ids run from 0 to one less; 0 for images.
        tokenizer: its facts; None for images.
        skipped: records and files left out, by reason.
        masked: personal data replaced, by kind.
        duplicates: records removed as "exact" and as "near" repeats.
        changed: records that cleaning changed; images that were resized.
        source: the files that were read, as they were.
        settings: digest of what the recipe said about data and tokenizer.
        fingerprint: keyed digest of the records read; only the holder of the run's key can compute it.
        seconds: how long preparation took.
        labels: the labels in the order of their classes; none for a task that has none.
        label_sets: where a record may have any number of labels, each set of them that there is, as places in `labels`; the class of
            a record is then its set.
        image: the shape of every image; None for text.
        text_bytes: of all splits together.
    """

    splits: dict[str, Split]
    vocab_size: int
    tokenizer: TokenizerFacts | None
    skipped: dict[str, int] = field(default_factory=dict)
    masked: dict[str, int] = field(default_factory=dict)
    duplicates: dict[str, int] = field(default_factory=dict)
    changed: int = 0
    source: list[Fact] = field(default_factory=list)
    settings: str = ""
    fingerprint: str = ""
    seconds: float = 0.0
    labels: list[str] = field(default_factory=list)
    label_sets: list[list[int]] = field(default_factory=list)
    image: ImageFacts | None = None

    @property
    def marks(self) -> TokenizerFacts:
        """The tokenizer's facts, of a run that has text."""
        assert self.tokenizer is not None, "images have no tokenizer"
        return self.tokenizer

    @property
    def prompted(self) -> bool:
        """Whether records are prompts with answers, in rows of their own."""
        return any(split.rows for split in self.splits.values())

    @property
    def multi_label(self) -> bool:
        """Whether a record may have any number of labels."""
        return bool(self.label_sets)

    @property
    def output(self) -> Output:
        """What a model of this data gives."""
        return "spans" if self.pair is not None else "labels" if self.labels else "tokens"

    @property
    def pair(self) -> Pair | None:
        """What stands around a question and a text, where answers are places in it; None for all other tasks."""
        return None if self.tokenizer is None else self.tokenizer.pair

    @property
    def text_bytes(self) -> int:
        return sum(split.text_bytes for split in self.splits.values())

    @property
    def tokens(self) -> int:
        return sum(split.tokens for split in self.splits.values())

    @property
    def records(self) -> int:
        return sum(split.records for split in self.splits.values())

    def to_json(self) -> dict[str, Any]:
        """As it is written to data/manifest.json."""
        return asdict(self) | {"text_bytes": self.text_bytes}

    @classmethod
    def from_json(cls, table: dict[str, Any]) -> Manifest:
        """Reads what `to_json` wrote.

        Args:
            table: content of data/manifest.json.

        Raises:
            KeyError, TypeError: another version wrote it.
        """
        table = {key: value for key, value in table.items() if key != "text_bytes"}
        splits = {
            name: Split(**split | {"shards": [ShardFacts(**shard) for shard in split["shards"]]})
            for name, split in table.pop("splits").items()
        }
        tokenizer, image = table.pop("tokenizer"), table.pop("image", None)
        return cls(
            splits=splits,
            tokenizer=tokenizer and TokenizerFacts(**tokenizer),
            source=[Fact(**fact) for fact in table.pop("source")],
            image=image and ImageFacts(**image),
            **table,
        )


def load_manifest(store: Store) -> Manifest | None:
    """The manifest of a run, or None if nothing is prepared yet.

    Args:
        store: the run's files.
    """
    return Manifest.from_json(store.read_json(MANIFEST_FILE)) if store.exists(MANIFEST_FILE) else None
