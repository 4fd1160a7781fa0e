"""Finds records that repeat an earlier one: exactly, or nearly (Jaccard similarity of word triples at least 0.8).

Near duplicates: MinHash with locality-sensitive hashing (Broder 1997; Leskovec, Rajaraman and Ullman, "Mining of Massive
Datasets", chapter 3). The sketches come from rensa (Rust, MIT, no dependencies); datasketch does the same but brings SciPy.
A pair of similarity 0.9 is found with probability over 0.999, one of 0.8 is on the border, one of 0.6 practically never.

Legend: R records, W words, S slots of a sketch.
"""

from __future__ import annotations

from functools import cache, lru_cache
from itertools import pairwise

import numpy as np
import rensa
from numpy.typing import NDArray

Texts = list[str]
Words = NDArray[np.uint64]

SIMILARITY = 0.8
SLOTS = 128
NEAR_LIMIT = 3_000_000  # records that are sketched, at 128 bytes each; the others are compared exactly only
SKETCHED_CHARS = 1_000_000  # a longer record is sketched by its beginning
# 16 bands of 8 slots: a pair of similarity s shares a band with probability 1 - (1 - s**8)**16.
_BAND_SLOTS = 8
_ROUNDS = 32  # clusters told apart within one band, so that a crowded band cannot take quadratic time
_COMPARED = 100_000  # pairs compared at once
_SEED = 1


class Sketches:
    """MinHash sketches of records, added in order; 128 bytes a record."""

    def __init__(self) -> None:
        self.count = 0
        # Address space only: a page takes memory when the first sketch is written to it.
        self._sketch_RS = np.empty((NEAR_LIMIT, SLOTS), np.uint8)
        self._has_words_R = np.zeros(NEAR_LIMIT, bool)

    @property
    def room(self) -> int:
        """How many more records can be added."""
        return NEAR_LIMIT - self.count

    def add(self, sketch_RS: NDArray[np.uint8], has_words_R: NDArray[np.bool_]) -> None:
        """Adds what `sketched` tells of the next records; those past `NEAR_LIMIT` are passed over."""
        here = slice(self.count, min(NEAR_LIMIT, self.count + len(sketch_RS)))
        count = here.stop - here.start
        self._sketch_RS[here], self._has_words_R[here] = sketch_RS[:count], has_words_R[:count]
        self.count += count

    def repeats(self, order: NDArray[np.int64], among_R: Words | None = None) -> NDArray[np.bool_]:
        """Which records are near duplicates of one that comes before them in `order`.

        Args:
            order: indices of the records to compare, those to be preferred first.
            among_R: records are compared only where this number is the same; left out, all with all.

        Returns:
            A flag for each record that was added; False for those outside `order`.
        """
        found_R = np.zeros(self.count, bool)
        order = order[order < self.count]
        order = order[self._has_words_R[order]]
        for start in range(0, SLOTS, _BAND_SLOTS):
            order = order[~found_R[order]]
            slots = np.ascontiguousarray(self._sketch_RS[order, start : start + _BAND_SLOTS])
            band = slots.view(np.uint64)[:, 0]
            band = band if among_R is None else _mixed(band + among_R[order])
            by_key = np.argsort(band, kind="stable")
            keys, members = band[by_key], order[by_key]
            self._mark(members, np.cumsum(np.append(False, keys[1:] != keys[:-1]))[: len(keys)], found_R)
        return found_R

    def _mark(self, members: NDArray[np.int64], group: NDArray[np.int64], found_R: NDArray[np.bool_]) -> None:
        """Marks members that resemble the first of their group, then the rest among themselves, and so on."""
        for _ in range(_ROUNDS):
            if not len(members):
                return
            first = np.append(True, group[1:] != group[:-1])
            leaders = members[first]
            rank = np.cumsum(first) - 1
            pairs = np.flatnonzero(~first)
            alike = self._alike(members[pairs], leaders[rank[pairs]])
            found_R[members[pairs[alike]]] = True
            members, group = members[pairs[~alike]], group[pairs[~alike]]

    def _alike(self, one: NDArray[np.int64], other: NDArray[np.int64]) -> NDArray[np.bool_]:
        alike = np.empty(len(one), bool)
        for start in range(0, len(one), _COMPARED):
            part = slice(start, start + _COMPARED)
            same = (self._sketch_RS[one[part]] == self._sketch_RS[other[part]]).sum(axis=1)
            alike[part] = same >= SIMILARITY * SLOTS
        return alike


def sketched(texts: Texts) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """The low byte of each slot of the texts' sketches (R, SLOTS), and which texts have words.

    Args:
        texts: R of them.

    Returns:
        uint8 (R, SLOTS), and bool (R,).

    Reference: MinHash, Broder, "On the resemblance and containment of documents", 1997.
    """
    if not texts:
        return np.zeros((0, SLOTS), np.uint8), np.zeros(0, bool)
    shingles, ends = shingles_of(texts)
    rows = rensa.RMinHash.digest_matrix_from_flat_token_hashes(shingles, ends, SLOTS, _SEED).to_rows()
    return np.array(rows, np.uint32).astype(np.uint8), np.diff(ends) > 0


def forget_tables() -> None:
    """Gives back the tables that shingles are computed with: up to a hundred megabytes that training would be charged with."""
    for table in (_kinds, _values, _powers):
        table.cache_clear()


def exact_repeats(
    digests_R: Words, order: NDArray[np.int64], among_R: Words | None = None
) -> NDArray[np.bool_]:
    """Which records have the digest, and the number in `among_R`, of one that comes before them in `order`.

    Args:
        digests_R: of the R records.
        order: numbers of the records, those that are kept first.
        among_R: number of each record's group, such as its owner; None: all records are one group.
    """
    found_R = np.zeros(len(digests_R), bool)
    keys_R = digests_R if among_R is None else _mixed(digests_R + among_R)
    _, first = np.unique(keys_R[order], return_index=True)
    found_R[order] = True
    found_R[order[first]] = False
    return found_R


# ---- shingles ------------------------------------------------------------------------------------------------------


def shingles_of(texts: Texts) -> tuple[Words, NDArray[np.int64]]:
    """Hashes of the word triples of each text, all in one array, and where each text's begin and end in it.

    A word is a run of letters and digits in any case, or one Chinese character, kana or Hangul syllable. Each word begins
    a triple; the last two are filled up with nothing, so that a text of one word has a triple too. The hashes are the same
    in every process and on every machine.

    Args:
        texts: R of them; of each the first `SKETCHED_CHARS` characters count.

    Returns:
        uint64 (N,), and int64 (R + 1,): those of text r stand from its number up to the next one's.
    """
    lowered = [text[:SKETCHED_CHARS].lower() for text in texts]
    codes = np.frombuffer("\n".join(lowered).encode("utf-32-le"), np.uint32)
    kinds = _kinds()[codes]
    starts = kinds == _LETTER
    starts[1:] &= kinds[:-1] != _LETTER
    starts |= kinds == _ALONE
    edges = np.concatenate([[0], np.cumsum([len(text) + 1 for text in lowered])])
    begins = np.flatnonzero(starts)
    ends = np.searchsorted(begins, edges)
    return _triples(_word_hashes(codes, begins), ends), ends


def _word_hashes(codes: NDArray[np.uint32], begins: NDArray[np.int64]) -> Words:
    """A hash of each word: its characters' values, each times a power of an odd number by its place, added up.

    Taken from the running sum over the whole batch, modulo 2**64, and moved to the word's own start by the inverse power.
    """
    powers, inverses = _powers(1 << max(16, len(codes).bit_length()))
    summed = np.zeros(len(codes) + 1, np.uint64)
    np.cumsum(_values()[codes] * powers[: len(codes)], out=summed[1:])
    words = np.diff(summed[np.append(begins, len(codes))])
    return _mixed(words * inverses[begins])


def _triples(words: Words, ends: NDArray[np.int64]) -> Words:
    second = np.append(words[1:], np.zeros(1, np.uint64))[: len(words)]
    third = np.append(words[2:], np.zeros(2, np.uint64))[: len(words)]
    last = ends[1:][ends[1:] > ends[:-1]] - 1  # the last word of each text that has one
    second[last] = third[last] = 0
    before_last = np.array([end - 2 for start, end in pairwise(ends.tolist()) if end - start > 1], np.int64)
    third[before_last] = 0
    return _mixed(words + np.uint64(0x9E3779B97F4A7C15) * second + np.uint64(0xC2B2AE3D27D4EB4F) * third)


def _mixed(values: Words) -> Words:
    """The finalizer of MurmurHash3: spreads every bit over all others."""
    values = values ^ (values >> np.uint64(33))
    values *= np.uint64(0xFF51AFD7ED558CCD)
    values ^= values >> np.uint64(33)
    values *= np.uint64(0xC4CEB9FE1A85EC53)
    values ^= values >> np.uint64(33)
    return values


_BETWEEN, _LETTER, _ALONE = 0, 1, 2
_ALONE_RANGES = (  # kana, ideographs and their extensions, Hangul syllables, compatibility ideographs
    (0x3040, 0x30FF),
    (0x3400, 0x4DBF),
    (0x4E00, 0x9FFF),
    (0xAC00, 0xD7AF),
    (0xF900, 0xFAFF),
    (0x20000, 0x323AF),
)


@cache
def _kinds() -> NDArray[np.uint8]:
    """For each code point: between words, a letter or digit of one, or a word of its own."""
    kinds = np.char.isalnum(np.arange(0x110000, dtype=np.uint32).view("U1")).astype(np.uint8)
    for begin, end in _ALONE_RANGES:
        kinds[begin : end + 1] *= _ALONE
    return kinds


@cache
def _values() -> Words:
    """For each code point: 64 well-mixed bits, and 0 for what lies between words."""
    return np.where(_kinds() == _BETWEEN, np.uint64(0), _mixed(np.arange(1, 0x110001, dtype=np.uint64)))


@lru_cache(maxsize=2)
def _powers(count: int) -> tuple[Words, Words]:
    """Powers 0, 1, 2, … of an odd number modulo 2**64, and of its inverse."""
    odd = 0x9E3779B97F4A7C15
    both = []
    for base in (odd, pow(odd, -1, 2**64)):
        powers = np.full(count, base, np.uint64)
        powers[0] = 1
        both.append(np.cumprod(powers))
    return both[0], both[1]
