"""Which tokenizer a run gets, and the training text that it is learned from."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import numpy as np
from numpy.typing import NDArray

from ..progress import Progress
from ..recipe import Recipe
from ..tasks.packing import texts_of
from .masking import Masker
from .split import TRAIN
from .survey import BATCH_CHARS, Survey
from .tokenizer import Tokenizer, byte_tokenizer, char_tokenizer, given_tokenizer, learn_bpe
from .work import Masking
from .workers import Workers

# Of training text that a bpe vocabulary is learned from. Learning takes memory for each distinct word, and without spaces
# between words (Chinese) nearly every stretch is distinct, so bytes of such text count several times.
SAMPLE_BYTES = 32 * 1024 * 1024
_WIDE_WEIGHT = 5


def choose_tokenizer(
    recipe: Recipe, survey: Survey, masker: Masker, progress: Progress, workers: Workers
) -> Tokenizer:
    """Makes, learns or reads the tokenizer that the recipe asks for; what is learned comes from the training split alone.

    Args:
        recipe: its `tokenizer` table.
        survey: says which records are for training.
        masker: what is masked in the shards is masked here too, so that no vocabulary holds it.
        progress: shows the bytes looked at.
        workers: mask.

    Raises:
        DataError: the tokenizer.json that is named is none.
    """
    wanted = recipe.tokenizer
    if wanted.from_ is not None:
        return _checked(given_tokenizer(wanted.from_), survey, progress)
    if wanted.kind == "byte":
        return byte_tokenizer()
    training_R = survey.kept_R & (survey.split_R == TRAIN)
    if wanted.kind == "char":
        seen = np.zeros(0x110000, bool)
        with progress.stage("collect characters", int(survey.bytes_R[training_R].sum()), "bytes") as stage:
            for size, words in workers.map(Masking(masker), _batches(survey, training_R)):
                seen[np.frombuffer("".join(words.texts).encode("utf-32-le"), np.uint32)] = True
                stage.advance(size)
        return char_tokenizer(map(chr, np.flatnonzero(seen).tolist()))
    sample_R = _sample(survey, training_R)
    with ExitStack() as now:

        def texts() -> Iterator[str]:
            total = int(survey.bytes_R[sample_R].sum())
            stage = now.enter_context(progress.stage("learn the tokenizer", total, "bytes"))
            for size, words in workers.map(Masking(masker), _batches(survey, sample_R)):
                yield from words.texts
                stage.advance(size)
            now.close()  # the library has all words, and says nothing while it merges their parts
            now.enter_context(progress.stage("merge tokens", None, "merges"))

        return learn_bpe(texts(), wanted.vocab_size)


def _batches(survey: Survey, wanted_R: NDArray[np.bool_]) -> Iterator[tuple[int, list[str]]]:
    """(bytes, contents) of many of the wanted records at once."""
    size, chars, contents = 0, 0, []
    for number, content in survey.contents(wanted_R):
        contents.append(content)
        size += int(survey.bytes_R[number])
        chars += len(content)
        if chars >= BATCH_CHARS:
            yield size, contents
            size, chars, contents = 0, 0, []
    yield size, contents


def _sample(survey: Survey, training_R: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """All training records if they fit into the sample, else those with the smallest digests: a fair, fixed draw."""
    bytes_R = survey.bytes_R.astype(np.int64)
    weight_R = bytes_R + _WIDE_WEIGHT * (bytes_R - survey.chars_R)
    if weight_R[training_R].sum() <= SAMPLE_BYTES:
        return training_R
    numbers = np.flatnonzero(training_R)
    drawn = numbers[np.argsort(survey.digests_R[numbers], kind="stable")]
    sample_R = np.zeros_like(training_R)
    sample_R[drawn[: max(1, int(np.searchsorted(np.cumsum(weight_R[drawn]), SAMPLE_BYTES)))]] = True
    return sample_R


def _checked(tokenizer: Tokenizer, survey: Survey, progress: Progress) -> Tokenizer:
    """Says so when a given tokenizer does not give back what it was given (it lowers case, or drops accents)."""
    first = np.zeros(len(survey.kept_R), bool)
    first[:100] = True
    texts = [text for _, content in survey.contents(first) for text in texts_of(content)]
    if any(tokenizer.decode(tokenizer.encode(text)) != text for text in texts):
        progress.say(
            "data.lossy-tokenizer",
            "The given tokenizer changes text: decoding does not give back what was encoded, so scores by the byte compare "
            "with no other tokenizer's.",
        )
    return tokenizer
