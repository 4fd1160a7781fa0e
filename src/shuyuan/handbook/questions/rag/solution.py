"""BM25 by hand, and the fusion of several rankings."""

import math
from collections import Counter


def bm25(question, passages, k1=1.5, b=0.75):
    number = len(passages)
    counts = [Counter(passage) for passage in passages]
    mean = sum(map(len, passages)) / number
    scores = [0.0] * number
    for word in set(question):
        holding = sum(word in count for count in counts)
        rarity = math.log(1 + (number - holding + 0.5) / (holding + 0.5))
        for place, count in enumerate(counts):
            damped = k1 * (1 - b + b * len(passages[place]) / mean)
            scores[place] += rarity * count[word] / (count[word] + damped)
    return scores


def fuse(rankings, k=60):
    points = Counter()
    for ranking in rankings:
        for place, name in enumerate(ranking, 1):
            points[name] += 1 / (k + place)
    return sorted(points, key=lambda name: (-points[name], name))
