"""What an index finds and answers."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, NamedTuple

from shuyuan.retrieval import Index, answer, build_index

from .page import Page, median, percent
from .running import Finished


class Asked(NamedTuple):
    """A question of a file in SQuAD's format: what it asks, the number of its paragraph, and what is right."""

    text: str
    paragraph: int
    answers: list[str]


def asked(run: Finished, name: str) -> tuple[list[str], list[Asked]]:
    """The paragraphs of a file in ../data/qa, as the command saw it, and the questions about them."""
    paragraphs: list[str] = []
    questions: list[Asked] = []
    file = run.folder.parent / "../data/qa" / name
    for article in json.loads(file.read_text(encoding="utf-8"))["data"]:
        for paragraph in article["paragraphs"]:
            questions += [
                Asked(each["question"], len(paragraphs), [answer["text"] for answer in each["answers"]])
                for each in paragraph["qas"]
                if each["question"].strip()
            ]
            paragraphs.append(paragraph["context"])
    return paragraphs, questions


def index_beside_text(run: Finished) -> float:
    paragraphs, _ = asked(run, "xquad.en.json")
    return float(run.result["bytes"]) / sum(len(text.encode()) for text in paragraphs)


def recall(name: str, first: int) -> Callable[[Finished], float]:
    """Percent of a file's questions whose paragraph holds one of the first passages of the index."""

    def pick(run: Finished) -> float:
        index = Index(run.folder)
        documents = index.documents
        _, questions = asked(run, name)
        found = [[each.document for each in index.search(one.text, first)] for one in questions]
        return percent(documents[one.paragraph] in names for one, names in zip(questions, found, strict=True))

    return pick


def told(run: Finished, name: str) -> list[Any]:
    """What the index answers to each question of a file."""
    index = Index(run.folder)
    return [answer(one.text, index) for one in asked(run, name)[1]]


def right_sentences(run: Finished) -> float:
    _, questions = asked(run, "xquad.en.json")
    answers = zip(questions, told(run, "xquad.en.json"), strict=True)
    return percent(any(right in (said.answer or "") for right in one.answers) for one, said in answers)


def exact_citations(run: Finished) -> float:
    paragraphs, _ = asked(run, "xquad.en.json")
    texts = dict(zip(Index(run.folder).documents, paragraphs, strict=True))
    sources = [(said.answer, said.source) for said in told(run, "xquad.en.json") if said.source]
    return percent(texts[one.document][one.start : one.end] == said for said, one in sources)


def answered_strangers(run: Finished) -> float:
    return percent(said.answer is not None for said in told(run, "cmrc2018_trial_squad.json"))


def planted_first(run: Finished) -> float:
    """An index of the same paragraphs and of a document for each question, which repeats it and lies."""
    _, questions = asked(run, "xquad.en.json")
    rows = [json.dumps({"text": f"{one.text} The answer to this is seven."}) for one in questions]
    file = run.folder.parent / "planted.jsonl"
    file.write_text("\n".join(rows) + "\n", encoding="utf-8")
    sources = [str(run.folder.parent / "../data/qa/xquad.en.json"), str(file)]
    build_index(sources, run.folder.parent / "planted-all")
    index = Index(run.folder.parent / "planted-all")
    return percent("planted.jsonl" in index.search(one.text, 1)[0].document for one in questions)


def place_of_planted(run: Finished) -> float:
    documents = [passage["document"] for passage in run.result["passages"]]
    return float(1 + next(n for n, name in enumerate(documents) if "planted.md" in name))


PAGE = Page(
    {
        "en-passages": median(lambda run: run.result["passages"]),
        "en-bytes": median(index_beside_text),
        "zh-passages": median(lambda run: run.result["passages"]),
        "en-first": median(recall("xquad.en.json", 1)),
        "en-five": median(recall("xquad.en.json", 5)),
        "zh-first": median(recall("xquad.zh.json", 1)),
        "zh-five": median(recall("xquad.zh.json", 5)),
        "crossed-five": median(recall("xquad.zh.json", 5)),
        "sentence": median(right_sentences),
        "cited": median(exact_citations),
        "strangers": median(answered_strangers),
        "planted": median(planted_first),
        "planted-passages": median(lambda run: run.result["passages"]),
        "planted-place": median(place_of_planted),
    },
    needs={"planted-place": ["planted-passages"]},
    stands_on={
        **dict.fromkeys(
            ("en-first", "en-five", "crossed-five", "sentence", "cited", "planted"), "en-passages"
        ),
        **dict.fromkeys(("zh-first", "zh-five", "strangers"), "zh-passages"),
    },
)
