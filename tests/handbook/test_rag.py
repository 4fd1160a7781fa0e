"""The checker of BM25 and fusion accepts every right way and names many more mistakes than the shipped variants."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from .checkers import HintFor, checker_of


@pytest.fixture(scope="module")
def hint_for() -> Iterator[HintFor]:
    with checker_of("rag", "bm25", "fuse") as found:
        yield found


ASKED = "set(question)"
HOLDING = "sum(word in count for count in counts)"
RARITY = "math.log(1 + (number - holding + 0.5) / (holding + 0.5))"
DAMPED = "k1 * (1 - b + b * len(passages[place]) / mean)"
ADDED = "rarity * count[word] / (count[word] + damped)"
SCORES = "return scores"
FIRST = "enumerate(ranking, 1)"
SORTED = "return sorted(points, key=lambda name: (-points[name], name))"

UNIQUE = [(ASKED, "dict.fromkeys(question)")]
LOG1P = [(RARITY, "math.log1p((number - holding + 0.5) / (holding + 0.5))")]
FROM_ZERO = [(FIRST, "enumerate(ranking)"), ("1 / (k + place)", "1 / (k + place + 1)")]


@pytest.mark.parametrize(
    "changes", [[], UNIQUE, LOG1P, FROM_ZERO], ids=["solution", "unique", "log1p", "zero"]
)
def test_right_ways_pass(hint_for: HintFor, changes: list[tuple[str, str]]) -> None:
    assert hint_for(*changes) is None


MISTAKES = {
    "changes-arguments": [(SCORES, "passages.pop()\n    return scores")],
    "scores-type": [(SCORES, "return scores[1:]")],
    "scores-numbers": [(SCORES, "return list(map(str, scores))")],
    "repeats": [(ASKED, "question")],
    "occurrences": [(HOLDING, "min(len(passages), sum(count[word] for count in counts))")],
    "no-rarity": [(ADDED, ADDED.replace("rarity * ", ""))],
    "negative-rarity": [(RARITY, RARITY.replace("1 + ", ""))],
    "plain-rarity": [(RARITY, "math.log(len(passages) / max(holding, 1))")],
    "no-length": [(DAMPED, "k1")],
    "total-length": [(DAMPED, DAMPED.replace("mean", "(mean * len(passages))"))],
    "old-numerator": [(ADDED, f"(k1 + 1) * {ADDED}")],
    "no-damping": [(ADDED, "rarity * count[word]")],
    "values": [(SCORES, "return [1.01 * score for score in scores]")],
    "changes-rankings": [(SORTED, f"rankings.clear()\n    {SORTED}")],
    "fused-type": [(SORTED, "return points")],
    "only-common": [(SORTED, SORTED.replace("(points,", "([n for n in points if all(n in r for r in rankings)],"))],
    "worst-first": [(SORTED, SORTED.replace("-points", "points"))],
    "ignores-k": [("1 / (k + place)", "1 / (60 + place)")],
    "place-from-zero": [(FIRST, "enumerate(ranking)")],
    "ties": [(SORTED, "return sorted(sorted(points, reverse=True), key=lambda name: -points[name])")],
    "fused-differs": [(SORTED, SORTED + "[:3]")],
}  # fmt: skip


@pytest.mark.parametrize("hint", MISTAKES)
def test_mistakes_are_named(hint_for: HintFor, hint: str) -> None:
    assert hint_for(*MISTAKES[hint]) == hint


def test_every_hint_is_tried() -> None:
    from shuyuan.handbook import load_bank

    coding = load_bank()["rag"].facts.coding
    assert coding is not None and coding.hints.keys() == MISTAKES.keys()
