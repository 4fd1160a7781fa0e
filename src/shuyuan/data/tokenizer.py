"""Text to token ids and back, through Hugging Face `tokenizers`; decode(encode(text)) == text for every text.

A tokenizer.json of ours is a complete one: transformers opens it and gives the same ids. Two things are done here beside
the library. Text that spells a special token stays text: no record can forge an end of record. And the kinds `byte` and
`char`, in which every token is a byte or a character, are looked up in a table, which is a hundred times faster than
running byte-pair encoding without merges; a test holds the two equal.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import AddedToken, decoders, models, pre_tokenizers, trainers
from tokenizers import Tokenizer as HubTokenizer

from ..errors import DataError, first_line
from ..vault import open_model_folder
from .snapshot import local_folder

Ids = NDArray[np.uint32]

END = "<|end|>"
# How tokenizers made elsewhere spell the token that ends a document, the likeliest first.
_ENDS = (END, "<|endoftext|>", "<|end_of_text|>", "<|im_end|>", "</s>", "<eos>", "[EOS]", "[SEP]")
# How they spell the token that opens a row, and the end token that goes with it where that is another than the likeliest.
_STARTS = {"[CLS]": "[SEP]", "<s>": None, "<bos>": None, "<|begin_of_text|>": None}
_PIECE = 100_000  # characters encoded at once: an encoding in the library takes about 100 bytes a token
_BATCH = 1_000_000
FEWEST_SEEN = 10  # times that a pair stands in the text which becomes a piece of a learned vocabulary; docs/lab-notes.md


class Tokenizer:
    """A tokenizer with one end token, which closes every record and opens generation.

    Args:
        hub: a tokenizer of the library `tokenizers`; it gets an end token where it has none.

    Attributes:
        end_id: the id of the end token.
        start_id: the id of the token that opens a row of a labelled text; None where there is none.
        kind: "byte", "char", or "bpe" for all others.

    Example:
        >>> tokenizer = byte_tokenizer()
        >>> tokenizer.encode("书院")
        [228, 185, 166, 233, 153, 162]
        >>> tokenizer.decode([228, 185, 166, 233, 153, 162])
        '书院'
    """

    def __init__(self, hub: HubTokenizer) -> None:
        if not any(hub.token_to_id(end) is not None for end in _ENDS):
            hub.add_special_tokens([AddedToken(END, special=True, normalized=False)])
        hub.encode_special_tokens = True
        hub.no_truncation()
        hub.no_padding()
        self._hub = hub
        special = {
            token.content: number for number, token in hub.get_added_tokens_decoder().items() if token.special
        }
        start = next((start for start in _STARTS if start in special), None)
        self.start_id: int | None = special[start] if start else None
        ends = [end for end in (start and _STARTS[start], *_ENDS) if end]
        self.end_id: int = next(token for end in ends if (token := hub.token_to_id(end)) is not None)
        self._table = _table_of(json.loads(hub.to_str()))
        self.kind = "bpe" if self._table is None else "byte" if len(self._table) == 256 else "char"

    @cached_property
    def vocab_size(self) -> int:
        """Ids run from 0 to one less."""
        return max(self._hub.get_vocab().values()) + 1

    def forget(self) -> None:
        """Remembers no words any more: where it encodes texts of several people, the time of one tells nothing of the others."""
        if isinstance(self._hub.model, (models.BPE, models.Unigram)):
            self._hub.model._resize_cache(0)

    def encode(self, text: str) -> list[int]:
        """Token ids of a text; no end token is added.

        Args:
            text: of any length; special tokens in it are ordinary characters.
        """
        return self.encode_batch([text])[0]

    def encode_markup(self, text: str) -> list[int]:
        """Token ids of a task's own words, which may spell special tokens; never use it for what a record holds.

        Args:
            text: written by a task or a template.
        """
        self._hub.encode_special_tokens = False
        try:
            ids: list[int] = self._hub.encode(text, add_special_tokens=False).ids
        finally:
            self._hub.encode_special_tokens = True
        return ids

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of each text.

        Args:
            texts: any number.
        """
        ids, ends = self.encode_flat(texts)
        return [part.tolist() for part in np.split(ids, ends[:-1])] if len(texts) else []

    def encode_flat(self, texts: Sequence[str]) -> tuple[Ids, NDArray[np.int64]]:
        """Token ids of all texts in one array, and where each text's end in it.

        Half of a surrogate pair, which no file of UTF-8 can hold, is encoded as the replacement character.

        Args:
            texts: any number, N.

        Returns:
            ids of all of them, one behind another, and ends_N: where each ends.
        """
        sound = [_sound(text) for text in texts]
        if self.kind == "byte":
            return _encode_bytes(sound)
        if self._table is not None:
            return _encode_characters(sound, self._table)
        return self._encode_pieces(sound)

    def _encode_pieces(self, texts: Sequence[str]) -> tuple[Ids, NDArray[np.int64]]:
        parts: list[Ids] = []
        lengths = np.zeros(len(texts), np.int64)
        for batch in _batches(texts):
            encodings = self._hub.encode_batch_fast([piece for _, piece in batch], add_special_tokens=False)
            for (number, _), encoding in zip(batch, encodings, strict=True):
                parts.append(np.array(encoding.ids, np.uint32))
                lengths[number] += len(parts[-1])
        return (np.concatenate(parts) if parts else np.zeros(0, np.uint32)), np.cumsum(lengths)

    def encode_placed(self, texts: Sequence[str]) -> list[tuple[list[int], NDArray[np.int64]]]:
        """Token ids of each text, and the characters that each token stands for: where they begin, and end (N, 2).

        Args:
            texts: any number.
        """
        found = self._hub.encode_batch([_sound(text) for text in texts], add_special_tokens=False)
        return [(each.ids, np.array(each.offsets, np.int64).reshape(-1, 2)) for each in found]

    def pair(self) -> list[list[int]] | None:
        """The special tokens before, between and behind two texts, by the tokenizer's own template; None where it has none that
        begins with one."""
        found = self._hub.encode("a", "a")
        sides = found.sequence_ids
        if sides[:1] != [None] or 0 not in sides or 1 not in sides or sides.index(0) > sides.index(1):
            return None
        last = len(sides) - 1 - sides[::-1].index(0)
        parts = slice(sides.index(0)), slice(last + 1, sides.index(1)), slice(sides.index(1), None)
        return [
            [token for token, side in zip(found.ids[part], sides[part], strict=True) if side is None]
            for part in parts
        ]

    def decode(self, ids: Iterable[int]) -> str:
        """The text of token ids; special tokens give none.

        Args:
            ids: whole numbers below `vocab_size`.
        """
        return str(self._hub.decode([int(token) for token in ids], skip_special_tokens=True))

    def to_json(self) -> str:
        """The whole tokenizer as the content of a tokenizer.json."""
        return str(self._hub.to_str())

    @classmethod
    def from_json(cls, text: str, where: str = "tokenizer.json") -> Tokenizer:
        """Reads the content of a tokenizer.json.

        Args:
            text: all of it.
            where: the file, for errors.

        Raises:
            DataError: it is none.
        """
        try:
            return cls(HubTokenizer.from_str(text))
        except Exception as error:  # the library raises plain Exception for whatever is wrong with the file
            raise DataError(
                "data.bad-tokenizer",
                f"This is not a tokenizer.json ({first_line(error)}).",
                where=where,
                mend="Save it with the library `tokenizers` or `transformers`: tokenizer.save_pretrained(FOLDER)",
            ) from None


def _sound(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def _batches(texts: Sequence[str]) -> Iterator[list[tuple[int, str]]]:
    """(number of the text, piece of it), about a million characters at once."""
    batch: list[tuple[int, str]] = []
    size = 0
    for number, text in enumerate(texts):
        for piece in _pieces(text):
            batch.append((number, piece))
            size += len(piece)
            if size >= _BATCH:
                yield batch
                batch, size = [], 0
    if batch:
        yield batch


def _pieces(text: str) -> Iterator[str]:
    """A long text in pieces that end at a line end or a space where there is one."""
    at = 0
    while len(text) - at > _PIECE:
        end = at + _PIECE
        middle = at + _PIECE // 2
        cut = max(text.rfind("\n", middle, end), 0) or max(text.rfind(" ", middle, end), 0) or end
        yield text[at:cut]
        at = cut
    if at < len(text):
        yield text[at:] if at else text


# ---- byte and char -------------------------------------------------------------------------------------------------


def byte_tokenizer() -> Tokenizer:
    """256 byte values, id equal to value, and the end token."""
    vocab = {character: value for value, character in _byte_characters().items()}
    hub = HubTokenizer(models.BPE(vocab=vocab, merges=[]))
    hub.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    hub.decoder = decoders.ByteLevel()
    return Tokenizer(hub)


def char_tokenizer(alphabet: Iterable[str]) -> Tokenizer:
    """One token for each character of `alphabet`; any other character becomes its UTF-8 bytes.

    Args:
        alphabet: characters, each as often as it likes.
    """
    vocab = {_byte_token(value): value for value in range(256)}
    vocab |= {character: 256 + place for place, character in enumerate(sorted(set(alphabet)))}
    hub = HubTokenizer(models.BPE(vocab=vocab, merges=[], byte_fallback=True))
    hub.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Fuse()])
    return Tokenizer(hub)


def _byte_token(value: int) -> str:
    return f"<0x{value:02X}>"


def _byte_characters() -> dict[int, str]:
    """The visible character by which byte-level tokenizers write each byte (a convention that GPT-2 began)."""
    shown = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = [value for value in range(256) if value not in shown]
    return {value: chr(value) for value in shown} | {value: chr(256 + at) for at, value in enumerate(hidden)}


def _table_of(spec: dict[str, Any]) -> NDArray[np.int32] | None:
    """For a tokenizer made here whose tokens are bytes or characters: the id of each; None for any other.

    256 entries for bytes; one for each code point, -1 where there is no token, for characters.
    """
    model = spec["model"]
    if model.get("type") != "BPE" or model.get("merges") or spec.get("normalizer"):
        return None
    vocab: dict[str, int] = model["vocab"]
    pre = spec.get("pre_tokenizer") or {}
    if pre.get("type") == "ByteLevel" and not pre.get("use_regex") and not pre.get("add_prefix_space"):
        same = all(vocab.get(character) == value for value, character in _byte_characters().items())
        return np.arange(256, dtype=np.int32) if same else None
    bytes_first = all(vocab.get(_byte_token(value)) == value for value in range(256))
    if pre or not model.get("byte_fallback") or not bytes_first:
        return None
    table = np.full(0x110000, -1, np.int32)
    for token, number in vocab.items():
        if len(token) == 1:
            table[ord(token)] = number
    return table


def _encode_bytes(texts: Sequence[str]) -> tuple[Ids, NDArray[np.int64]]:
    encoded = [text.encode() for text in texts]
    ids = np.frombuffer(b"".join(encoded), np.uint8).astype(np.uint32)
    return ids, np.cumsum([len(part) for part in encoded], dtype=np.int64)


def _encode_characters(texts: Sequence[str], table: NDArray[np.int32]) -> tuple[Ids, NDArray[np.int64]]:
    """One token a character; a character without one becomes as many as it has bytes in UTF-8."""
    joined = "".join(texts)
    codes = np.frombuffer(joined.encode("utf-32-le"), np.uint32)
    found = table[codes]
    ends = np.cumsum([len(text) for text in texts], dtype=np.int64)
    strange = np.flatnonzero(found < 0)
    if not len(strange):
        return found.astype(np.uint32), ends
    spelled = [joined[place].encode() for place in strange.tolist()]
    widths = np.ones(len(codes), np.int64)
    widths[strange] = [len(part) for part in spelled]
    borders = np.concatenate([[0], np.cumsum(widths)])
    ids = np.repeat(found, widths)
    ids[np.repeat(found < 0, widths)] = np.frombuffer(b"".join(spelled), np.uint8)
    return ids.astype(np.uint32), borders[ends]


# ---- learned and given ---------------------------------------------------------------------------------------------


def learn_bpe(texts: Iterable[str], vocab_size: int) -> Tokenizer:
    """Byte-level byte-pair encoding learned from texts: 256 bytes, the end token, and merges up to `vocab_size` entries, of pairs that
    stand at least FEWEST_SEEN times. A piece that is seen once or twice is learned by heart, and held-out text falls into others.

    Args:
        texts: to learn from; read once.
        vocab_size: entries at most, with the 256 bytes and the end token.

    Reference: Sennrich, Haddow and Birch, "Neural machine translation of rare words with subword units", ACL 2016;
    on bytes: Radford et al., "Language models are unsupervised multitask learners", 2019.
    """
    hub = HubTokenizer(models.BPE())
    hub.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    hub.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=FEWEST_SEEN,
        special_tokens=[AddedToken(END, special=True, normalized=False)],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    hub.train_from_iterator((piece for text in texts for piece in _pieces(text)), trainer)
    return Tokenizer(hub)


def given_tokenizer(place: str | Path) -> Tokenizer:
    """The tokenizer of a tokenizer.json, or of a model folder, run or repository on the hub that holds one.

    Args:
        place: as in the recipe's `tokenizer.from`.

    Raises:
        DataError: there is none.
        RunError, VaultError: the run has no model yet, or cannot be opened.
    """
    path = local_folder(place, weights=False)
    try:
        text = _of_folder(path) if path.is_dir() else path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        raise DataError(
            "data.missing",
            "There is no readable tokenizer.json.",
            where=str(path),
            mend="Check `tokenizer.from`.",
        ) from None
    return Tokenizer.from_json(text, where=str(path))


def _of_folder(path: Path) -> str:
    with open_model_folder(path) as (store, name):
        file = f"{name}/tokenizer.json".removeprefix("/")
        if not store.exists(file):
            raise FileNotFoundError(file)
        return store.read(file).decode()
