"""Judges both functions by what they return for small collections.

A passage is a string here; its words are handed over as a list.
"""

import copy
import itertools
import math
from collections import Counter

CLOSE = 1e-6
PASSAGES = (
    "the cat sat on the mat",
    "the dog bit the cat and the cat ran and the dog ran after the cat",
    "a treatise on cats and dogs",
    "leave of absence takes the form that the office of the registrar hands out on request in the second week of the term",
    "the form the form the form the form",
    "the registrar",
)
QUESTIONS = ("the cat", "form of the registrar", "dog dog bit", "registrar", "where is the ferret")
SETTINGS = ((1.5, 0.75), (1.2, 0.0), (2.0, 1.0))


def check(answer, wrong):
    check_bm25(answer.bm25, wrong)
    check_fuse(answer.fuse, wrong)


# ---- BM25 ----------------------------------------------------------------------------------------------------------


def reference(question, passages, k1, b, *, mistake=""):
    """The scores; `mistake` names one of the known ways to get them wrong."""
    mean = sum(map(len, passages)) / len(passages)
    if mistake == "total-length":
        mean *= len(passages)
    asked = question if mistake == "repeats" else set(question)
    scores = []
    for passage in passages:
        damped = k1 * (1 - b + b * len(passage) / mean)
        if mistake == "no-length":
            damped = k1
        score = 0.0
        for word in asked:
            times = passage.count(word)
            share = times / (times + damped)
            if mistake == "old-numerator":
                share *= k1 + 1
            score += rarity(word, passages, mistake) * (times if mistake == "no-damping" else share)
        scores.append(score)
    return scores


def rarity(word, passages, mistake):
    number, holding = len(passages), sum(word in passage for passage in passages)
    if mistake == "no-rarity":
        return 1.0
    if mistake == "negative-rarity":
        return math.log((number - holding + 0.5) / (holding + 0.5))
    if mistake == "plain-rarity":
        return math.log(number / holding) if holding else 0.0
    if mistake == "occurrences":
        holding = min(number, sum(passage.count(word) for passage in passages))
    return math.log(1 + (number - holding + 0.5) / (holding + 0.5))


def check_bm25(bm25, wrong):
    passages = [passage.split() for passage in PASSAGES]
    kept = copy.deepcopy(passages)
    asked = [(question.split(), *setting) for question in QUESTIONS for setting in SETTINGS]
    found = []
    for question, k1, b in asked:
        scores = bm25(list(question), passages, k1, b)
        if passages != kept:
            wrong("changes-arguments")
        if not isinstance(scores, list | tuple) or len(scores) != len(passages):
            wrong("scores-type", what=type(scores).__name__, count=len(passages))
        if not all(isinstance(score, int | float) for score in scores):
            wrong("scores-numbers")
        found.append(scores)
    if all_same(found, asked, passages, ""):
        return
    name_mistake(found, asked, passages, wrong)
    for scores, (question, k1, b) in zip(found, asked, strict=True):
        true = reference(question, passages, k1, b)
        if not same(scores, true):
            place = max(range(len(true)), key=lambda i: abs(scores[i] - true[i]))
            words, passage = " ".join(question), PASSAGES[place]
            score, right = f"{scores[place]:.4g}", f"{true[place]:.4g}"
            wrong("values", question=words, passage=passage, score=score, right=right)


def name_mistake(found, asked, passages, wrong):
    if all_same(found, asked, passages, "repeats"):
        wrong("repeats")
    if all_same(found, asked, passages, "occurrences"):
        wrong("occurrences")
    if all_same(found, asked, passages, "no-rarity"):
        wrong("no-rarity")
    if all_same(found, asked, passages, "negative-rarity"):
        wrong("negative-rarity")
    if all_same(found, asked, passages, "plain-rarity"):
        wrong("plain-rarity")
    if all_same(found, asked, passages, "no-length"):
        wrong("no-length")
    if all_same(found, asked, passages, "total-length"):
        wrong("total-length")
    if all_same(found, asked, passages, "old-numerator"):
        wrong("old-numerator")
    if all_same(found, asked, passages, "no-damping"):
        wrong("no-damping")


def all_same(found, asked, passages, mistake):
    return all(
        same(scores, reference(question, passages, k1, b, mistake=mistake))
        for scores, (question, k1, b) in zip(found, asked, strict=True)
    )


def same(scores, others):
    return all(
        abs(one - other) <= CLOSE * max(1, abs(other)) for one, other in zip(scores, others, strict=True)
    )


# ---- fusion --------------------------------------------------------------------------------------------------------

RANKINGS = (
    [[3, 1, 2], [2, 3, 1]],
    [[5, 4], [4, 6, 5], [7]],
    [[1, 2, 3, 4, 5, 6], [6, 9]],
    [["b", "a"], ["a", "b"]],
    [[], [8, 2]],
    [[10, 20, 30], [30, 40, 50], [60, 30]],
)
FIRST_COUNTS = [[1, 2, 3], [4, 2, 3]]  # with a small k a first place weighs more than two third ones


def fused(rankings, k, *, first=1, only_common=False, rising=False):
    points = Counter()
    for ranking in rankings:
        for place, one in enumerate(ranking, first):
            points[one] += 1 / (k + place)
    if only_common:
        points = {one: value for one, value in points.items() if all(one in ranking for ranking in rankings)}
    return sorted(points, key=lambda one: (points[one] if rising else -points[one], one))


def check_fuse(fuse, wrong):
    tried = [(rankings, 60) for rankings in RANKINGS] + [(FIRST_COUNTS, 60), (FIRST_COUNTS, 0.5)]
    found = []
    for rankings, k in tried:
        given = copy.deepcopy(rankings)
        ranking = fuse(given, k)
        if given != rankings:
            wrong("changes-rankings")
        if not isinstance(ranking, list | tuple):
            wrong("fused-type", what=type(ranking).__name__)
        found.append(list(ranking))
    right = [fused(rankings, k) for rankings, k in tried]
    if found == right:
        return
    if found == [fused(rankings, k, only_common=True) for rankings, k in tried]:
        wrong("only-common")
    if found == [fused(rankings, k, rising=True) for rankings, k in tried]:
        wrong("worst-first")
    if found == [fused(rankings, 60) for rankings, _ in tried]:
        wrong("ignores-k")
    if found == [fused(rankings, k, first=0) for rankings, k in tried]:
        wrong("place-from-zero")
    at = next(i for i, (one, other) in enumerate(zip(found, right, strict=True)) if one != other)
    if sorted(map(str, found[at])) == sorted(map(str, right[at])) and tied(found[at], *tried[at]):
        wrong("ties")
    wrong("fused-differs", rankings=tried[at][0], k=tried[at][1], found=found[at], right=right[at])


def tied(found, rankings, k):
    """Whether it differs only in the order of ids with equally many points."""
    points = Counter()
    for ranking in rankings:
        for place, one in enumerate(ranking, 1):
            points[one] += 1 / (k + place)
    values = [points[one] for one in found]
    return all(a >= b - 1e-12 for a, b in itertools.pairwise(values))
