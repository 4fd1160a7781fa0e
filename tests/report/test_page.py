"""The page: self-contained, inert, the same every time, and silent where it must be."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import subprocess
import sys
import tomllib
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from shuyuan import recipe as recipes
from shuyuan.report import render, summary, write_report
from shuyuan.report.facts import gather
from shuyuan.report.forecast import compared, plan_rows
from shuyuan.runs import Run
from shuyuan.vault import open_store

from .conftest import END, MANIFEST, NOTICE, PLAN, RECIPE, SAMPLES, SCORES, MakeRun, start_line, step_lines

VOID = {"meta", "link", "br", "img", "hr", "input", "col"}


class Page(HTMLParser):
    """What a browser would build: elements with their attributes, and that every element is closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        assert len(attrs) == len(dict(attrs)), f"an attribute of {tag} comes twice"
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open[-1:] != ["style"]:
            self.text += data

    @property
    def shape(self) -> Counter[tuple[str, ...]]:
        """Elements with the names of their attributes: all that could act."""
        return Counter((tag, *sorted(attributes)) for tag, attributes in self.elements)


def test_the_page_of_an_open_run_tells_everything(make_run: MakeRun) -> None:
    run, store = make_run()
    file = write_report(run, store, run.recipe())
    text = Page(file.read_text(encoding="utf-8")).text
    assert file == run.path / "report.html"
    for words in (
        "3.217", "4.432", "1.22 below a Kneser–Ney bigram model", "5.31 million", "2 min 7 s", "Not private", "4,210",
        "321 email", "12 exact, 88 near", "9 empty records, 3 empty files", "bpe, 4,096 entries", "return self.value", "名字", "12 records were skipped",
        "+4 %", "734 MB to 881 MB", "Example CPU, 2 cores", 'budget = "2 min"', "Nothing is sealed", "documentation and source text", "97.5 MB", "99.6 MB", "activations 524 MB", "first 777 records",
    ):  # fmt: skip
        assert words in text, words


def test_the_public_page_of_a_sealed_run_says_nothing_about_records(make_run: MakeRun) -> None:
    run, store = make_run(sealed=True)
    public = render(run, store, whole=False)
    for secret in (
        "3.217", "4.432", "3.11", "8.1", "4,210", "467", "9,876,543", "1,012,345", "321", "return self", "名字", "12 records",
        "9 empty", "def main", "5,312,256", "nats", "validation.loss",
        "97.5 MB", "99.6 MB", "activations", "524 MB", "777",
        "828 MB", "797 MB",  # the peak may be that of preparation, which follows the size of the source
    ):  # fmt: skip
        assert secret not in Page(public).text, secret
    for words in (
        "400",
        "2 min 7 s",
        "Example CPU",
        "shuyuan report RUN --to FILE",
        "encrypted",
        'key = "env:KEY"',
    ):
        assert words in Page(public).text, words
    assert set(store.reads) == {"plan.json"}  # type: ignore[attr-defined]


def test_the_public_page_does_not_depend_on_anything_sealed(make_run: MakeRun) -> None:
    sealed_files: dict[str, Any] = {
        "metrics.jsonl": [start_line(), *step_lines(1, 3)], "scores.json": {}, "samples.json": [], "data/manifest.json": {},
    }  # fmt: skip
    one, other = (
        make_run(sealed=True, folder="one"),
        make_run(sealed=True, folder="other", changed=sealed_files),
    )
    assert render(*one, whole=False) == render(*other, whole=False)


def test_a_vocabulary_of_the_records_own_characters_is_not_told_by_the_size_of_the_model(
    make_run: MakeRun,
) -> None:
    made = make_run(sealed=True, extra='\n[tokenizer]\nkind = "char"\n')
    public = Page(render(*made, whole=False)).text
    assert "5.31 million" not in public and "5,310,000" not in public and "5.30" not in public
    assert "5.31 million" in Page(render(*made, whole=True)).text


def test_the_whole_page_of_a_sealed_run_is_marked(make_run: MakeRun) -> None:
    run, store = make_run(sealed=True)
    whole = Page(render(run, store, whole=True)).text
    assert "do not publish" in whole and "3.217" in whole and "return self.value" in whole
    run, store = make_run(sealed=True, extra="\n[report]\nopen = true\n", folder="shown")
    shown = Page(render(run, store, whole=True)).text
    assert "do not publish" not in shown and "Sealed, with an open report" in shown and "3.217" in shown


def test_the_same_run_gives_the_same_bytes(make_run: MakeRun) -> None:
    run, store = make_run()
    first = write_report(run, store, run.recipe()).read_bytes()
    assert write_report(run, store, run.recipe()).read_bytes() == first


@pytest.mark.parametrize("whole", [True, False])
def test_nothing_is_loaded_and_nothing_runs(make_run: MakeRun, whole: bool) -> None:
    run, store = make_run(sealed=not whole)
    text = render(run, store, whole=whole)
    page = Page(text)
    for tag, attributes in page.elements:
        assert tag not in (
            "script",
            "img",
            "iframe",
            "object",
            "embed",
            "link",
            "base",
            "form",
            "audio",
            "video",
            "foreignobject",
        )
        for name, value in attributes.items():
            assert not name.startswith("on") and name not in (
                "src",
                "srcset",
                "style",
                "action",
                "xlink:href",
            ), (tag, name)
            assert name != "href" or str(value).startswith("#"), value
    assert "@import" not in text and not re.search(r"url\((?!#)", text) and "javascript:" not in text
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))


def test_the_content_policy_allows_the_one_style_sheet_and_nothing_else(make_run: MakeRun) -> None:
    text = render(*make_run(), whole=True)
    policy = next(a["content"] for tag, a in Page(text).elements if tag == "meta" and "http-equiv" in a)
    sheets = re.findall(r"<style>(.*?)</style>", text, re.DOTALL)
    assert len(sheets) == 1
    digest = base64.b64encode(hashlib.sha256(sheets[0].encode()).digest()).decode()
    assert policy == f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"


ATTACKS = [
    "<script>alert(1)</script>",
    "\"><img src=x onerror=alert(1)>",
    "' onmouseover='alert(1)",
    "</style></title></pre></svg><script>alert(1)</script>",
    "<!--", "]]>", "{{ 7 * 7 }}{% raw %}", "&lt;script&gt;", "javascript:alert(1)", "<svg/onload=alert(1)>",
    "\u202e\u2066evil\u2069\x1b]0;x\x07\x00",
]  # fmt: skip


@pytest.mark.parametrize("attack", ATTACKS)
def test_no_text_from_outside_becomes_markup(make_run: MakeRun, attack: str) -> None:
    harmless, harmful = (
        _run_full_of(make_run, text, folder) for text, folder in (("word", "calm"), (attack, "attacked"))
    )
    page = Page(harmful)
    assert page.shape == Page(harmless).shape
    assert not set("\u202e\u2066\u2069\x1b\x07\x00") & set(harmful)
    if attack.isprintable():
        assert page.text.count(attack) >= 12


def _run_full_of(make_run: MakeRun, text: str, folder: str) -> str:
    """The page of a run in which every text that comes from records, model, recipe or machine is `text`."""
    split: dict[str, Any] = MANIFEST["splits"]["train"]  # type: ignore[index, call-overload, assignment]
    changed: dict[str, Any] = {
        "samples.json": [{"prompt": text, "text": text, "seed": text, "temperature": text}],
        "scores.json": {"generation": {"original": {f"validation.{text}": 1.0, **SCORES["generation"]["original"]}}},
        "data/manifest.json": {
            "splits": {"train": split, text: split}, "masked": {text: 2}, "skipped": {text: 3}, "duplicates": {text: 4}, "vocab_size": 9,
        },
        "plan.json": {**PLAN, "advice": [text], "notes": [text], "items": {text: 5}},
        "metrics.jsonl": [
            {**NOTICE, "text": text}, {**start_line(), "device": text, "precision": text}, *step_lines(1, 4),
            {"event": "train.skipped", "step": 4, "reason": text}, END,
        ],
    }  # fmt: skip
    from shuyuan import recipe as recipes

    table = {
        "name": "demo",
        "data": {"source": f"/nowhere/{text}", "text": text, "owner": text, "mask_patterns": {text: text}},
        "resolved": {"machine": text, "date": text, "versions": {text: text}},
    }
    toml = recipes.check(table, where="test").as_toml()
    run, store = make_run(changed=changed, recipe=toml, folder=folder)
    return render(run, store, whole=True)


PARTS = (
    "plan.json",
    "data/manifest.json",
    "metrics.jsonl",
    "scores.json",
    "samples.json",
    "model",
    "checkpoints",
)


@pytest.mark.parametrize("part", PARTS)
def test_a_missing_part_leaves_its_section_out(make_run: MakeRun, part: str) -> None:
    run, store = make_run(without=(part,))
    text = Page(render(run, store, whole=True)).text
    heading = {"plan.json": "What was predicted", "data/manifest.json": "What the records became", "metrics.jsonl": "Loss over the steps",
               "scores.json": "Bits per byte", "samples.json": "Written by the model"}.get(part)  # fmt: skip
    if heading:
        full = Page(render(*make_run(folder="full"), whole=True)).text
        assert heading in full and heading not in text
    assert "None" not in text and "Undefined" not in text


def test_a_run_of_which_only_the_recipe_is_there(make_run: MakeRun) -> None:
    run, store = make_run(without=PARTS)
    text = Page(render(run, store, whole=True)).text
    assert "to be trained from scratch" in text and "Training has not ended yet" in text and "Recipe" in text


EMPTY: list[dict[str, Any]] = [
    {"scores.json": {}}, {"scores.json": {"generation": {"original": {}}}}, {"scores.json": None}, {"samples.json": []},
    {"samples.json": [{}, None]}, {"data/manifest.json": {}}, {"data/manifest.json": {"splits": {"train": {}}}}, {"plan.json": {}},
    {"plan.json": {"peak_bytes": {}, "seconds": None, "items": [], "advice": None}}, {"metrics.jsonl": []},
    {"metrics.jsonl": [{"event": "train.step"}, {}, {"event": "train.end"}]},
    {"metrics.jsonl": [start_line(), {"event": "train.step", "step": 1, "loss": float("nan")}]},
    {"plan.json": {**PLAN, "peak_bytes": {"low": 0, "expected": 0, "high": 0}, "measured": {}}},
]  # fmt: skip


@pytest.mark.parametrize("changed", EMPTY, ids=[str(index) for index in range(len(EMPTY))])
def test_thin_files_are_no_error(make_run: MakeRun, changed: dict[str, Any]) -> None:
    Page(render(*make_run(changed=changed), whole=True))


def test_every_figure_is_marked_with_its_origin(make_run: MakeRun) -> None:
    public = Page(render(*make_run(sealed=True), whole=False)).text
    assert re.search(r"Parameters\s*5\.31 million\s*predicted", public)
    whole = Page(render(*make_run(folder="open"), whole=True)).text
    assert re.search(r"Parameters\s*5\.31 million\s*counted", whole)
    assert re.search(r"Validation loss\s*3\.217\s*nats a token, measured", whole)


def test_a_model_that_is_worse_than_counting_says_so(make_run: MakeRun) -> None:
    scores = {"generation": {"original": {"validation.loss": 5.0, "validation.bigram_loss": 4.5}}}
    text = Page(render(*make_run(changed={"scores.json": scores}), whole=True)).text
    assert "0.50 above a Kneser–Ney bigram model: counting pairs of tokens does no worse" in text


def test_a_long_sample_is_cut_and_says_so(make_run: MakeRun) -> None:
    text = render(
        *make_run(changed={"samples.json": [{"prompt": "p", "text": "word " * 100_000}]}), whole=True
    )
    assert len(text) < 100_000 and "first 4,000 of 500,000 characters" in text


def test_the_recipe_on_the_page_can_be_used_again(make_run: MakeRun) -> None:
    import tomllib

    text = Page(render(*make_run(), whole=True)).text
    shown = text[text.index('name = "demo"') : text.index("Machine and versions")]
    assert (
        tomllib.loads(shown)["train"]
        == tomllib.loads(shown)["train"] | tomllib.loads(RECIPE.format(extra=""))["train"]
    )


def test_a_run_that_is_really_sealed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEY", "a long enough passphrase")
    run = Run(tmp_path / "run")
    with open_store(run, "env:KEY", create=True) as store:
        store.write_open("recipe.toml", RECIPE.format(extra='\n[vault]\nkey = "env:KEY"\n').encode())
        store.write_open("plan.json", json.dumps(PLAN).encode())
        for name, content in {
            "data/manifest.json": MANIFEST,
            "scores.json": SCORES,
            "samples.json": SAMPLES,
        }.items():
            store.write_json(name, content)
        with store.folder("model") as folder:
            folder.write("model.safetensors", b"0" * 1000)
        journal = store.journal("metrics.jsonl")
        for line in (start_line(), *step_lines(1, 20), END):
            journal.append(line)
        assert summary(run, store)["status"] == "evaluated"
        public = write_report(run, store, run.recipe()).read_text(encoding="utf-8")
    with open_store(run, "env:KEY", writable=False) as store:
        whole = render(run, store, whole=True)
        told = summary(run, store)
        assert store.verify() == []
    assert (told["sealed"], told["status"], told["variants"]["original"]["bytes"]) == (True, "complete", 1000)
    assert "return self.value" in whole and "3.217" in whole
    assert "return self.value" not in public and "3.217" not in Page(public).text
    assert not any(b"return self" in file.read_bytes() for file in run.path.rglob("*") if file.is_file())


def test_the_room_loads_neither_torch_nor_matplotlib_before_it_draws() -> None:
    code = (
        "import sys, shuyuan.report; print([name for name in ('torch', 'matplotlib') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("measured", "said"),
    [
        (100, "exact"), (100.2, "within 1 %"), (104, "+4 %"), (60, "−40 %"), (310, "3.1 times"), (4613, "46 times"),
        (None, ""), (float("nan"), ""),
    ],
)  # fmt: skip
def test_how_far_off_a_prediction_was(measured: float | None, said: str) -> None:
    row = compared("Time", {"low": 90, "expected": 100, "high": 120}, measured, str)
    assert row is not None and row.off == said


def test_only_what_was_measured_is_said_to_be(make_run: MakeRun) -> None:
    run, store = make_run()
    assert {row.label: row.measured for row in plan_rows(gather(run, store, whole=True))} == {
        "Peak memory": "828 MB", "Training time": "2 min 7 s", "Storage": "99.6 MB", "Parameters": "5,312,256",
        "Tokens to train on": "1,638,400", "Floating point operations": "–",
    }  # fmt: skip


def test_a_labelled_run_is_told_by_its_accuracy(make_run: MakeRun) -> None:
    table = tomllib.loads(RECIPE.format(extra=""))
    table |= {"task": "sentiment"}
    scores = {
        "validation.accuracy": 0.9312,
        "validation.majority_accuracy": 0.5104,
        "validation.loss": 0.2345,
    }
    run, store = make_run(
        recipe=recipes.check(table, where="test").as_toml(),
        changed={"scores.json": {"sentiment": {"original": scores}}},
    )
    page = write_report(run, store, run.recipe()).read_text(encoding="utf-8")
    text = re.sub(r"<[^>]+>", " ", page)
    assert "93.1%" in text and "51.0%" in text and "the most frequent one" in re.sub(r"\s+", " ", text)
    assert "nats a record" in text and "Records a second" in text and "nats a token" not in text
