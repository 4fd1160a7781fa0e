"""`shuyuan index`, `shuyuan answer` and `shuyuan verify` on an index: fields, words and exit status."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from shuyuan.vault import write_key_file
from tests.retrieval.parts import FAQ_ZH, write_documents, write_pairs
from tests.runs import shuyuan

INDEX_FIELDS = {"index", "pairs", "documents", "passages", "words", "left_out", "bytes", "sealed", "matching"}
PLACE_FIELDS = {"document", "line", "start", "end", "score", "text"}


@pytest.fixture
def made(tmp_path: Path) -> Path:
    write_documents(tmp_path / "docs")
    outcome = shuyuan("index", tmp_path / "docs", "--out", tmp_path / "i", "--json")
    assert outcome.status == 0 and outcome.json.keys() >= INDEX_FIELDS
    assert (outcome.json["documents"], outcome.json["pairs"], outcome.json["sealed"]) == (3, False, False)
    assert outcome.stderr.count("Not sealed") == 1
    return tmp_path / "i"


def test_documents(made: Path) -> None:
    told = shuyuan("answer", "Who decides on exceptions?", "--index", made, "--top", "2", "--json").json
    assert told["answer"] == "Dr. Chen decides on exceptions."
    assert told["source"].keys() == PLACE_FIELDS and len(told["passages"]) <= 2
    assert told["passages"][0].keys() == PLACE_FIELDS
    shown = shuyuan("answer", "-", "--index", made, stdin="发票丢了怎么办？\n").stdout
    assert shown.startswith("发票丢失的，须由开票单位出具证明。\n[")
    assert "报销.txt:5, characters" in " ".join(shown.split())  # a long path breaks the line


def test_no_torch_is_loaded(made: Path) -> None:
    code = "import sys; from shuyuan.cli import main; sys.argv = sys.argv[1:]\n"
    code += "try: main()\nfinally: assert 'torch' not in sys.modules and 'shuyuan.retrieval' in sys.modules"
    arguments = [sys.executable, "-c", code, "shuyuan", "answer", "leave", "--index", str(made)]
    done = subprocess.run(arguments, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "leave" in done.stdout, done.stderr


def test_lines_fit_the_terminal(made: Path) -> None:
    from rich.cells import cell_len

    shown = shuyuan("answer", "住宿费 leave press", "--index", made).stdout.splitlines()
    prose = [line for line in shown if "/" not in line]  # a path is not broken
    assert len(prose) > 5 and max(map(cell_len, prose)) <= 80


def test_nothing_fits(made: Path) -> None:
    outcome = shuyuan("answer", "quokka", "--index", made)
    assert outcome.status == 0 and "Nothing here" in outcome.stdout


def test_pairs(tmp_path: Path) -> None:
    file = write_pairs(tmp_path / "faq.csv")
    arguments = ("--question", "question", "--answer", "answer", "--coverage", "0.9", "--out", tmp_path / "i")
    made = shuyuan("index", file, *arguments, "--json").json
    assert made["pairs"] and made["matching"]["calibrated"] and "evidence" not in made["matching"]
    assert made["matching"]["coverage"] >= 0.9
    told = shuyuan("answer", "reset my password", "--index", tmp_path / "i", "--json").json
    assert told["answer"] == "Use the link on the login page." and told["hand-over"] is False
    assert 0 < told["confidence"] < 1
    handed = shuyuan("answer", "Is the earth round?", "--index", tmp_path / "i", "--json").json
    assert handed["answer"] is None and handed["hand-over"] is True
    assert (
        "Hand over to a person" in shuyuan("answer", "Is the earth round?", "--index", tmp_path / "i").stdout
    )


def test_one_column_of_pairs_implies_the_other(tmp_path: Path) -> None:
    file = write_pairs(tmp_path / "faq.csv", FAQ_ZH)
    outcome = shuyuan("index", file, "--answer", "answer", "--out", tmp_path / "i")
    assert outcome.status == 0 and "a similarity, not a" in " ".join(outcome.stdout.split())
    assert (
        shuyuan("answer", "怎么取消订单", "--index", tmp_path / "i", "--json").json["answer"] == FAQ_ZH[3][1]
    )


@pytest.mark.parametrize(
    ("arguments", "status", "code"),
    [
        (("index", "nowhere", "--out", "i"), 1, "data.missing"),
        (("answer", "x", "--index", "nowhere"), 1, "retrieval.not-an-index"),
        (("answer", " ", "--index", "MADE"), 1, "retrieval.empty-question"),
        (("answer", "x", "--index", "MADE", "--top", "0"), 2, None),
        (("index", "docs", "--out", "i", "--coverage", "1", "--accuracy", "1"), 1, "retrieval.bad-wish"),
        (("index", "docs", "--out", "i", "--coverage", "1.5"), 2, None),
        (("index", "docs"), 2, None),
        (("answer", "x"), 2, None),
    ],
)
def test_refusals(
    made: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], status: int, code: str | None
) -> None:
    monkeypatch.chdir(made.parent)
    given = [str(made) if argument == "MADE" else argument for argument in arguments]
    outcome = shuyuan(*given, *(["--json"] if code else []))
    assert outcome.status == status
    assert code is None or outcome.json["error"]["code"] == code


def test_a_sealed_index_and_its_keys(tmp_path: Path) -> None:
    write_documents(tmp_path / "docs")
    index = tmp_path / "i"
    keys = [f"file:{write_key_file(tmp_path / name)}" for name in ("first.key", "second.key")]
    made = shuyuan("index", tmp_path / "docs", "--out", index, "--key", keys[0], "--json")
    assert made.json["sealed"] is True and "Not sealed" not in made.stderr
    asked = ("answer", "Who decides on exceptions?", "--index", index, "--json")
    assert shuyuan(*asked).json["error"]["code"] == "vault.sealed"
    assert shuyuan(*asked, "--key", keys[1]).json["error"]["code"] == "vault.wrong-key"
    assert shuyuan("keys", "rotate", index, "--key", keys[0], "--new", keys[1], "--reencrypt").status == 0
    assert shuyuan(*asked, "--key", keys[0]).json["error"]["code"] == "vault.wrong-key"
    assert shuyuan(*asked, "--key", keys[1]).json["answer"] == "Dr. Chen decides on exceptions."
    verified = shuyuan("verify", index, "--key", keys[1], "--json").json
    assert verified["ok"] and len(verified["head"]) == 64


def test_verify(made: Path) -> None:
    assert shuyuan("verify", made, "--json").json == {
        "ok": True, "problems": [], "epsilon_recomputed": None, "head": None,
    }  # fmt: skip
    (made / "index/texts.utf8").write_text("x")
    outcome = shuyuan("verify", made, "--json")
    assert outcome.status == 1
    assert [problem["file"] for problem in outcome.json["problems"]] == ["index/texts.utf8"]


def test_what_only_a_run_obeys_is_refused_without_one(made: Path) -> None:
    for option in (("--variant", "int8"), ("--max-tokens", "5")):
        refused = shuyuan("answer", "Who?", "--index", made, *option)
        assert refused.status == 2 and "name a run too" in " ".join(refused.stderr.split())
