"""A sealed run, from end to end: no word of a record outside the seals, and the same model as in the open."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.runs import shuyuan, text_of, write_recipe

CANARY = "Zyzzogeton-7431"
KEY = "correct horse battery staple"


@pytest.fixture(scope="module")
def sealed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny sealed run whose records hold a canary, made by another process with its own temporary folder."""
    folder = tmp_path_factory.mktemp("sealed")
    recipe = write_recipe(folder, sealed=True)
    lines = text_of(400).splitlines()
    planted = "".join(
        f"{line} {CANARY}\n" if number % 7 == 0 else line + "\n" for number, line in enumerate(lines)
    )
    (folder / "notes.txt").write_text(planted, encoding="utf-8")
    (folder / "tmp").mkdir()
    (folder / "home").mkdir()
    env = dict(os.environ, SHUYUAN_TEST_KEY=KEY, TMPDIR=str(folder / "tmp"), HOME=str(folder / "home"))
    env |= {"SHUYUAN_HOME": str(folder / "home/shuyuan")}
    env |= {"XDG_CACHE_HOME": str(folder / "home/cache"), "XDG_CONFIG_HOME": str(folder / "home/config")}
    command = [sys.executable, "-m", "shuyuan", "run", str(recipe), "--out", str(folder / "run")]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (folder / "stderr.log").write_text(done.stderr)
    return folder


@pytest.fixture(autouse=True)
def _key(sealed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHUYUAN_TEST_KEY", KEY)
    monkeypatch.setenv("SHUYUAN_HOME", str(sealed / "home/shuyuan"))


def test_the_canary_is_nowhere(sealed: Path) -> None:
    needles = [CANARY.encode(form) for form in ("utf-8", "utf-16-le", "utf-16-be")]
    searched = 0
    assert list((sealed / "home/shuyuan/ledgers").glob("*.jsonl"))
    for place in ("run", "tmp", "home", "stderr.log"):
        files = [sealed / place] if (sealed / place).is_file() else list((sealed / place).rglob("*"))
        for file in files:
            assert CANARY not in file.name
            if file.is_file():
                searched += 1
                content = file.read_bytes()
                assert not any(needle in content for needle in needles), file
    assert searched > 8


def test_the_search_would_find_it(sealed: Path) -> None:
    """The same search over the source does find the canary, so it can fail."""
    assert CANARY.encode() in (sealed / "notes.txt").read_bytes()


def test_the_key_opens_it(sealed: Path) -> None:
    summary = shuyuan("info", sealed / "run", "--json").json
    assert summary["sealed"] is True
    assert shuyuan("verify", sealed / "run", "--json").json["ok"] is True
    assert shuyuan("generate", sealed / "run", "line", "--max-tokens", "4").status == 0


def test_nothing_else_opens_it(sealed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHUYUAN_TEST_KEY", "wrong horse")
    for verb in ("info", "verify", "run"):
        outcome = shuyuan(verb, sealed / "run", "--json")
        assert (outcome.status, outcome.json["error"]["code"]) == (1, "vault.wrong-key")
    monkeypatch.delenv("SHUYUAN_TEST_KEY")
    assert shuyuan("info", sealed / "run", "--json").json["error"]["code"].startswith("vault.")


def test_names_say_nothing(sealed: Path) -> None:
    said = (
        "train",
        "validation",
        "shard",
        "tokenizer",
        "metrics",
        "samples",
        "scores",
        "step",
        "safetensors",
        "manifest",
    )
    names = [file.name for file in (sealed / "run").rglob("*") if file.is_file()]
    assert not [name for name in names if any(word in name for word in said)]


def test_the_open_report_says_nothing_of_the_records(sealed: Path) -> None:
    page = (sealed / "run/report.html").read_text(encoding="utf-8")
    loss = shuyuan("info", sealed / "run", "--json").json["loss"]
    for figure in (loss["train"], loss["validation"]):
        assert f"{figure:.3f}" not in page and f"{figure:.2f}" not in page


def test_every_file_is_watched(sealed: Path, tmp_path: Path) -> None:
    """One byte changed in any file of the folder: verify or the opening itself names that file."""
    files = [
        file
        for file in (sealed / "run").rglob("*")
        if file.is_file() and file.stat().st_size and file.name != ".lock"
    ]
    assert len(files) > 8
    for file in files:
        copy = tmp_path / "copy"
        shutil.copytree(sealed / "run", copy)
        victim = copy / file.relative_to(sealed / "run")
        content = bytearray(victim.read_bytes())
        content[len(content) // 2] ^= 1
        victim.write_bytes(content)
        outcome = shuyuan("verify", copy, "--json")
        assert outcome.status == 1, f"{victim.name}: {outcome.stdout}"
        name = victim.relative_to(copy).as_posix()
        assert name in outcome.stdout or victim.name in outcome.stdout, (name, outcome.stdout)
        shutil.rmtree(copy)


def test_sealing_changes_no_weight(sealed: Path, tmp_path: Path) -> None:
    """The same recipe in the open trains the same model, bit for bit."""
    recipe = write_recipe(tmp_path)
    shutil.copy(sealed / "notes.txt", tmp_path / "notes.txt")
    assert shuyuan("run", recipe, "--out", tmp_path / "open").status == 0
    assert shuyuan("export", sealed / "run", "--to", tmp_path / "exported", "--open").status == 0
    exported, opened = tmp_path / "exported/model.safetensors", tmp_path / "open/model/model.safetensors"
    assert exported.read_bytes() == opened.read_bytes()


def test_a_command_planted_in_a_run_folder_is_not_run(sealed: Path, tmp_path: Path) -> None:
    """Whoever can write the folder could name a command where the key's place stands."""
    copy = tmp_path / "copy"
    shutil.copytree(sealed / "run", copy)
    recipe = copy / "recipe.toml"
    planted = recipe.read_text(encoding="utf-8").replace(
        "env:SHUYUAN_TEST_KEY", f"command:touch {tmp_path}/pwned"
    )
    recipe.write_text(planted, encoding="utf-8")
    for arguments in (["info"], ["run"], ["verify"], ["generate"], ["keys", "remove"]):
        rest = ["key-1"] if arguments[0] == "keys" else []
        outcome = shuyuan(*arguments, copy, *rest, "--json")
        assert outcome.json["error"]["code"] == "vault.command-in-run"
    assert not (tmp_path / "pwned").exists()
    key = f"command:printf '{KEY}'"
    problems = shuyuan("verify", copy, "--key", key, "--json").json["problems"]
    assert [problem["file"] for problem in problems] == ["recipe.toml"]


def test_a_command_in_ones_own_recipe_is_run(tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path, steps=2)
    key = f"vault.key=\"command:printf '{KEY}'\""
    for _ in range(2):
        assert shuyuan("run", recipe, "--out", tmp_path / "run", "--set", key).status == 0
    assert shuyuan("info", tmp_path / "run", "--key", f"command:printf '{KEY}'").status == 0
