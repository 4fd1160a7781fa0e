"""Retrieval beside plain bm25s, known answers beside TF-IDF with logistic regression, and answers without a model.

Usage: python benchmarks/retrieval.py [../shared/data]

Recall is of paragraphs: a question counts when one of the first k passages lies in the paragraph that it was asked about.
Plain bm25s scores whole paragraphs with its own tokenizer, which splits at spaces and drops English stop words.
"""

from __future__ import annotations

import csv
import json
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import bm25s
import numpy as np

from shuyuan.retrieval import Columns, Index, Wish, answer, best_sentence, build_index, window_span
from shuyuan.tasks.measures import best, exact, overlap

DEFAULT = Path(__file__).parents[1] / "../shared/data"
SETS = {
    "XQuAD en": "qa/xquad.en.json",
    "XQuAD zh": "qa/xquad.zh.json",
    "CMRC trial": "qa/cmrc2018_trial_squad.json",
    "DRCD dev": "qa/DRCD_dev.json",
}
KS = (1, 5, 10)


@dataclass
class Question:
    """What is asked, about which paragraph, and what is accepted as an answer."""

    text: str
    paragraph: int
    answers: list[str]


def load(file: Path) -> tuple[list[str], list[Question]]:
    paragraphs, questions = [], []
    for article in json.loads(file.read_text(encoding="utf-8"))["data"]:
        for paragraph in article["paragraphs"]:
            for asked in paragraph["qas"]:
                if not asked["question"].strip():
                    continue  # CMRC has one
                accepted = [each["text"] for each in asked["answers"]]
                questions.append(Question(asked["question"], len(paragraphs), accepted))
            paragraphs.append(paragraph["context"])
    return paragraphs, questions


def recall(ranked: list[list[int]], questions: list[Question]) -> list[float]:
    hits = [[q.paragraph in found[:k] for k in KS] for found, q in zip(ranked, questions, strict=True)]
    return [100 * float(share) for share in np.mean(hits, axis=0)]


def ours(index: Index, questions: list[Question]) -> tuple[list[float], float]:
    place = {name: number for number, name in enumerate(index.documents)}
    begin = time.perf_counter()
    found = [[place[each.document] for each in index.search(q.text, max(KS))] for q in questions]
    return recall(found, questions), (time.perf_counter() - begin) / len(questions)


def plain(paragraphs: list[str], questions: list[Question]) -> tuple[list[float], float]:
    library = bm25s.BM25()
    library.index(bm25s.tokenize(paragraphs, show_progress=False), show_progress=False)
    begin = time.perf_counter()
    tokens = bm25s.tokenize([q.text for q in questions], show_progress=False)
    found, scores = library.retrieve(tokens, k=max(KS), show_progress=False)
    seconds = (time.perf_counter() - begin) / len(questions)
    fitting = [row[score > 0].tolist() for row, score in zip(found, scores, strict=True)]
    return recall(fitting, questions), seconds


# ---- answers without a model ---------------------------------------------------------------------------------------


def baselines(index: Index, paragraphs: list[str], questions: list[Question]) -> dict[str, float]:
    """EM and F1 of the span, and how often the sentence holds the answer: in the right paragraph, and from the index."""
    spans, inside, from_index = [], [], []
    rarity = index.scoring.rarity
    for q in questions:
        context = paragraphs[q.paragraph]
        span = window_span(q.text, context, rarity)
        said = context[span.start : span.end] if span else ""
        spans.append([best(measure, said, q.answers) for measure in (exact, overlap)])
        sentence = best_sentence(q.text, [context], rarity)
        said = context[sentence.start : sentence.end] if sentence else ""
        inside.append(any(each in said for each in q.answers))
        told = answer(q.text, index).answer or ""
        from_index.append(any(each in told for each in q.answers))
    em, f1 = np.mean(spans, axis=0)
    return {
        "span_em": 100 * em,
        "span_f1": 100 * f1,
        "sentence": 100 * np.mean(inside),
        "sentence_from_index": 100 * np.mean(from_index),
    }


# ---- known answers -------------------------------------------------------------------------------------------------


def at_coverage(right: np.ndarray, sure: np.ndarray, share: float) -> float:
    """Accuracy in percent of the surest share."""
    count = round(share * len(right))
    return 100 * float(right[np.argsort(-sure, kind="stable")[:count]].mean())


def known_answers(data: Path, folder: Path) -> dict[str, dict[str, float]]:
    train, test = data / "dialogue/banking77_train.csv", data / "dialogue/banking77_test.csv"
    columns = Columns("text", "category")
    begin = time.perf_counter()
    made = build_index([str(train)], folder / "faq", columns=columns, wish=Wish(coverage=0.9))
    build_seconds = time.perf_counter() - begin
    index = Index(folder / "faq")
    with test.open(encoding="utf-8", newline="") as lines:
        rows = list(csv.DictReader(lines))
    votes = [index.vote(row["text"]) for row in rows]
    begin = time.perf_counter()
    told = [answer(row["text"], index) for row in rows]
    seconds = (time.perf_counter() - begin) / len(rows)
    said = [each.source.answer if each.source else None for each in told]
    right = np.array([one == row["category"] for one, row in zip(said, rows, strict=True)])
    evidence = np.array([each.evidence for each in votes])
    confidence = np.array([each.confidence for each in told])
    answered = ~np.array([each.hand_over for each in told])
    _, strangers = load(data / SETS["XQuAD en"])
    handed = np.mean([answer(q.text, index).hand_over for q in strangers])
    figures = {"shuyuan": curve(right, evidence)}
    figures["the nearest question, plain bm25s"] = curve(*nearest(train, rows))
    figures["TF-IDF with logistic regression"] = curve(*regression(train, rows))
    for many in (1, 5, 20):
        few = few_questions(train, many, folder / f"{many}.csv")
        build_index([str(few)], folder / f"faq-{many}", columns=columns)
        figures[f"questions for each answer: {many}"] = told_of(Index(folder / f"faq-{many}"), rows)
    figures["foreseen and found"] = {
        "coverage foreseen": 100 * made["matching"]["coverage"],
        "coverage": 100 * float(answered.mean()),
        "accuracy foreseen": 100 * made["matching"]["accuracy"],
        "accuracy": 100 * float(right[answered].mean()),
        "calibration error": 100 * calibration_error(right, confidence),
        "strangers handed over": 100 * float(handed),
        "ms a question": 1000 * seconds,
        "seconds to build": build_seconds,
    }
    return figures


def few_questions(train: Path, many: int, to: Path) -> Path:
    """The first questions of each answer."""
    seen: Counter[str] = Counter()
    with to.open("w", encoding="utf-8", newline="") as out:
        table = csv.writer(out)
        table.writerow(("text", "category"))
        for text, label in zip(*read(train), strict=True):
            seen[label] += 1
            if seen[label] <= many:
                table.writerow((text, label))
    return to


def told_of(index: Index, rows: list[dict[str, str]]) -> dict[str, float]:
    """What the default threshold answers, and how much of all and of that is right."""
    told = [answer(row["text"], index) for row in rows]
    said = [each.source.answer if each.source else None for each in told]
    right = np.array([one == row["category"] for one, row in zip(said, rows, strict=True)])
    answered = ~np.array([each.hand_over for each in told])
    return {
        "accuracy": 100 * float(right.mean()),
        "answered": 100 * float(answered.mean()),
        "right of these": 100 * float(right[answered].mean()),
    }


def curve(right: np.ndarray, sure: np.ndarray) -> dict[str, float]:
    return {f"{share:.0%}": at_coverage(right, sure, share) for share in (1, 0.9, 0.8, 0.5)}


def calibration_error(right: np.ndarray, confidence: np.ndarray, bins: int = 10) -> float:
    place = np.minimum((confidence * bins).astype(int), bins - 1)
    parts = [(place == number) for number in range(bins)]
    return float(sum(abs(right[p].mean() - confidence[p].mean()) * p.mean() for p in parts if p.any()))


def read(file: Path) -> tuple[list[str], list[str]]:
    with file.open(encoding="utf-8", newline="") as lines:
        rows = list(csv.DictReader(lines))
    return [row["text"] for row in rows], [row["category"] for row in rows]


def nearest(train: Path, rows: list[dict[str, str]]) -> tuple[np.ndarray, np.ndarray]:
    texts, labels = read(train)
    library = bm25s.BM25()
    library.index(bm25s.tokenize(texts, show_progress=False), show_progress=False)
    asked = bm25s.tokenize([row["text"] for row in rows], show_progress=False)
    found, scores = library.retrieve(asked, k=1, show_progress=False)
    right = [labels[place] == row["category"] for place, row in zip(found[:, 0], rows, strict=True)]
    return np.array(right), scores[:, 0]


def regression(train: Path, rows: list[dict[str, str]]) -> tuple[np.ndarray, np.ndarray]:
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression

    texts, labels = read(train)
    words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)
    model = LogisticRegression(C=10, max_iter=1000).fit(words.fit_transform(texts), labels)
    shares = model.predict_proba(words.transform([row["text"] for row in rows]))
    right = model.classes_[shares.argmax(1)] == np.array([row["category"] for row in rows])
    return right, shares.max(1)


def main() -> None:
    data = Path(sys.argv[1]) if len(sys.argv) > 1 else DEFAULT
    if not (data / SETS["XQuAD en"]).exists():
        print(f"The public data sets are not in {data}: nothing is measured.")
        return
    figures: dict[str, object] = {"benchmark": "retrieval"}
    with tempfile.TemporaryDirectory() as name:
        print(f"{'paragraphs':<12}{'':<14}{'recall@1':>9}{'@5':>7}{'@10':>7}{'ms a question':>15}")
        for title, file in SETS.items():
            paragraphs, questions = load(data / file)
            build_index([str(data / file)], Path(name) / title)
            index = Index(Path(name) / title)
            rows = {"shuyuan": ours(index, questions), "plain bm25s": plain(paragraphs, questions)}
            for peer, (shares, seconds) in rows.items():
                shown = f"{shares[0]:>9.1f}{shares[1]:>7.1f}{shares[2]:>7.1f}{1000 * seconds:>15.2f}"
                print(f"{title:<12}{peer:<14}{shown}")
            found = baselines(index, paragraphs, questions)
            print(f"{title:<12}" + ", ".join(f"{what} {value:.1f}" for what, value in found.items()))
            figures[title] = {
                "recall": {peer: shares for peer, (shares, _) in rows.items()},
                **{what: float(value) for what, value in found.items()},
            }
        figures["banking77"] = known_answers(data, Path(name))
    for what, row in figures["banking77"].items():
        print(f"{what:<36}" + ", ".join(f"{key} {value:.1f}" for key, value in row.items()))
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
