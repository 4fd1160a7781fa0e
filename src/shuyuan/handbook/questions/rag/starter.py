"""BM25 by hand, and the fusion of several rankings."""

import math  # noqa: F401


def bm25(question, passages, k1=1.5, b=0.75):
    """How well each passage fits a question, as Lucene scores it.

    Args:
        question: its words, a list; one that stands there twice counts once.
        passages: for each passage the list of its words.
        k1: how soon further occurrences of a word stop to count.
        b: how much long passages are held back, from 0 to 1.

    Returns:
        A score for each passage, in their order: for each word of the question

            rarity · f / (f + k1 · (1 − b + b · length / mean length))

        with f the times that the word stands in the passage, and rarity =
        log(1 + (N − n + 0.5) / (n + 0.5)), where n of N passages hold the
        word, however often. A word that no passage holds adds nothing.
    """
    raise NotImplementedError


def fuse(rankings, k=60):
    """Reciprocal rank fusion: one ranking of several, as of words and of
    vectors.

    Args:
        rankings: lists of ids, the best first; not always the same ids.
        k: the larger, the less the first places stand out.

    Returns:
        All ids that any of them holds, the best first: each gets 1 / (k + place)
        from every ranking that holds it, the first place being 1. Of equal ones
        the smaller id comes first.
    """
    raise NotImplementedError
