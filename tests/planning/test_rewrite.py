"""Recipes that are changed in their text: what they say is what was asked for, comments stay, and no file is ever half there."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shuyuan.errors import RecipeError, RunError
from shuyuan.planning.rewrite import rewritten, write

TEXT = """# of the ward
name = "ward"   # kept short

[data]
source = "notes.txt" # a "#" in "quotes"

[train]   # by the hour
budget = "10 min"  # until lunch
batch_size = 64

# the end
"""


def test_comments_and_order_stay() -> None:
    text, kept = rewritten(
        TEXT, {"train.batch_size": 32, "train.budget": "5 min", "model.size": "tiny", "train.micro_batch": 4}
    )
    assert kept
    wanted = TEXT.replace("64\n", "32\nmicro_batch = 4\n").replace('"10 min"', '"5 min"')
    assert text == wanted + '\n[model]\nsize = "tiny"\n'


def test_a_key_is_taken_out_and_a_table_put_in() -> None:
    text, kept = rewritten(TEXT, {"train.batch_size": None, "train.lora": {"rank": 16}})
    said = tomllib.loads(text)
    assert kept and said["train"] == {"budget": "10 min", "lora": {"rank": 16}}


@pytest.mark.parametrize(
    "text",
    [
        "[train] # a\nlora = { rank = 4 } # b\n",
        '[train] # a\nbudget = "1 min"\n[train.lora] # b\nrank = 4 # c\n',
        "[train] # a\nlora.rank = 4 # b\n",
    ],
)
def test_a_table_is_changed_however_it_is_written(text: str) -> None:
    new, kept = rewritten(text, {"train.lora": {"rank": 4, "base": "int4"}})
    assert tomllib.loads(new)["train"]["lora"] == {"rank": 4, "base": "int4"}
    assert kept == ("lora.rank" not in text)
    assert not kept or all(comment in new for comment in ("# a", "# b"))


@pytest.mark.parametrize(
    "text",
    [
        'train = { budget = "1 min" }\ndata = { source = "x" }\n',
        'train.budget = "1 min" # dotted\n[data]\nsource = "x"\n',
        '[data]\nsource = [\n  "x", # one\n  "y",\n]\n[train]\nbudget = """\n1 min"""\n',
        '[data]\nsource = "x"\n[train.lora]\nrank = 4\n',
        '[data]\r\nsource = "x"\r\n[train]\r\nbudget = "1 min"',
        '[data]\nsource = "[train]"\nother = """\n[train]\n"""\n',
    ],
)
@pytest.mark.parametrize(
    "change", [{"train.budget": "9 s"}, {"train.lora.rank": 2}, {"data.source": "z"}, {"train.steps": 3}]
)
def test_whatever_the_layout_the_recipe_says_what_was_asked(text: str, change: dict[str, Any]) -> None:
    new, _ = rewritten(text, change)
    (key, value), before = next(iter(change.items())), tomllib.loads(text)
    here: Any = before
    *path, last = key.split(".")
    for part in path:
        here = here.setdefault(part, {})
    here[last] = value
    assert tomllib.loads(new) == before


words = st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=12)
values = st.one_of(
    st.integers(-(10**9), 10**9), st.booleans(), words, st.floats(allow_nan=False, allow_infinity=False)
)
keys = st.sampled_from(
    ["name", "seed", "train.budget", "train.batch_size", "train.micro_batch", "model.size", "data.source"]
)


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(
    st.dictionaries(keys, values, max_size=4),
    st.dictionaries(keys, st.one_of(st.none(), values), max_size=4),
    words,
)
def test_any_values_of_any_keys(before: dict[str, Any], change: dict[str, Any], comment: str) -> None:
    text, _ = rewritten(f"# {comment}\n", before)
    new, _ = rewritten(text, change)
    wanted: dict[str, Any] = {}
    for key, value in (before | change).items():
        *path, last = key.split(".")
        inner = wanted
        for part in path:
            inner = inner.setdefault(part, {})
        if value is not None:
            inner[last] = value
    assert {name: each for name, each in tomllib.loads(new).items() if each != {}} == {
        name: each for name, each in wanted.items() if each != {}
    }


# ---- files -----------------------------------------------------------------------------------------------------------


def recipe(folder: Path) -> Path:
    (folder / "notes.txt").write_text("some words. " * 100)
    file = folder / "ward.toml"
    file.write_text(TEXT)
    return file


def test_the_file_is_replaced_and_says_what_changed(tmp_path: Path) -> None:
    file = recipe(tmp_path)
    file.chmod(0o640)
    done = write(file, file, {"train.batch_size": 32, "train.micro_batch": 4})
    assert file.read_text() == TEXT.replace("64\n", "32\nmicro_batch = 4\n")
    assert file.stat().st_mode & 0o777 == 0o640 and done.comments_kept
    assert done.changes == [
        {"key": "train.batch_size", "was": 64, "now": 32},
        {"key": "train.micro_batch", "was": None, "now": 4},
    ]


def test_a_refused_change_leaves_the_file_and_nothing_beside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = recipe(tmp_path)
    with pytest.raises(RecipeError):
        write(file, file, {"train.batch_size": "many"})

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(OSError, match="space"):
        write(file, file, {"train.batch_size": 32})
    assert file.read_text() == TEXT and sorted(path.name for path in tmp_path.iterdir()) == [
        "notes.txt",
        "ward.toml",
    ]


def test_another_file_is_not_overwritten_nor_one_that_would_read_other_records(tmp_path: Path) -> None:
    file = recipe(tmp_path)
    (tmp_path / "there.toml").write_text("x = 1")
    with pytest.raises(RunError, match="already"):
        write(file, tmp_path / "there.toml", {"train.batch_size": 32})
    with pytest.raises(RecipeError, match="other-folder"):
        write(file, tmp_path / "deep/new.toml", {"train.batch_size": 32})
    assert not (tmp_path / "deep/new.toml").exists()
    write(file, tmp_path / "new.toml", {"train.batch_size": 32})
    assert file.read_text() == TEXT and "batch_size = 32" in (tmp_path / "new.toml").read_text()
