"""The checker of BM25 and fusion accepts every right way and names many more mistakes than the shipped variants."""

from __future__ import annotations

from . import Changes

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


RIGHT: dict[str, Changes] = {
    "unique": UNIQUE,
    "log1p": LOG1P,
    "zero": FROM_ZERO,
}


MISTAKES: dict[str, Changes] = {
    "changes-arguments": [(SCORES, "passages.pop()\n    return scores")],
    "scores-type": [(SCORES, "return scores[1:]")],
    "scores-numbers": [(SCORES, "return list(map(str, scores))")],
    "occurrences": [(HOLDING, "min(len(passages), sum(count[word] for count in counts))")],
    "plain-rarity": [(RARITY, "math.log(len(passages) / max(holding, 1))")],
    "total-length": [(DAMPED, DAMPED.replace("mean", "(mean * len(passages))"))],
    "old-numerator": [(ADDED, f"(k1 + 1) * {ADDED}")],
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
