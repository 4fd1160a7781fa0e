"""The ledger of a data set: which records it is about, who writes to it, and what it adds up to."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from shuyuan.errors import PrivacyError, RecipeError
from shuyuan.privacy import PrivateLoop, make_private
from shuyuan.privacy.data_sets import DataSetLedger, data_set_id, enter, folder, same_records, together
from shuyuan.privacy.ledger import LEDGER_FILE
from shuyuan.progress import Progress
from shuyuan.recipe import Recipe, from_table
from shuyuan.vault import OpenStore

from .test_ledger import line


@pytest.fixture(autouse=True)
def _own_ledgers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHUYUAN_HOME", str(tmp_path / "home"))


def recipe_of(
    source: str | Path | list[str] = "stdlib", privacy: dict[str, Any] | None = None, **data: Any
) -> Recipe:
    spec = source if isinstance(source, list) else str(source)
    table: dict[str, Any] = {"data": {"source": spec, **data}}
    return from_table(table | ({"privacy": {"epsilon": 3.0, **privacy}} if privacy is not None else {}))


def ledger_of(recipe: Recipe, run: str = "run") -> DataSetLedger:
    return DataSetLedger.of_run(recipe, Path("/runs") / run)


def steps(draws: str, unit: str = "owner", **changes: Any) -> dict[str, Any]:
    return line(1, 30, draws) | {"unit": unit} | changes


PRIVATE = recipe_of(privacy={})


# ---- which data set --------------------------------------------------------------------------------------------------


def test_the_same_records_are_the_same_data_set_by_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    notes = tmp_path / "notes.jsonl"
    notes.write_text("{}")
    (tmp_path / "link.jsonl").symlink_to(notes)
    name = data_set_id(recipe_of(notes))
    monkeypatch.chdir(tmp_path)
    for again in (
        "notes.jsonl",
        "./notes.jsonl",
        str(tmp_path / "link.jsonl"),
        ["link.jsonl", "notes.jsonl"],
    ):
        assert data_set_id(recipe_of(again)) == name
    assert data_set_id(recipe_of(notes, text="body")) == name
    assert data_set_id(recipe_of(notes, privacy={"unit": "record"})) == name
    assert data_set_id(recipe_of(tmp_path)) != name
    other, one = ["other.jsonl", "notes.jsonl"], ["notes.jsonl", "other.jsonl"]
    assert (
        data_set_id(recipe_of(other)) == data_set_id(recipe_of(one)) != name
    )  # in any order; and more than one of them
    assert name.startswith("notes-")


def test_sources_that_share_a_file_have_the_same_records(tmp_path: Path) -> None:
    for name in ("notes/a.txt", "notes/b.txt", "other/c.txt", "links/d.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("a line")
    (tmp_path / "links/a.txt").symlink_to("../notes/a.txt")
    shared = [
        "notes",
        "notes/a.txt",
        "not*/a.*",
        "**/notes/a.txt",
        "links",
        "links/a.txt",
        ".",
        ["other", "notes/a.txt"],
    ]
    apart = ["other", "notes/b.txt", "missing/*.txt"]

    def named(place: str | list[str], **data: Any) -> Recipe:
        places = [str(tmp_path / one) for one in (place if isinstance(place, list) else [place])]
        return recipe_of(places, **data)

    for place in shared:
        assert same_records(named("notes/a.txt"), named(place)), place
        assert same_records(named(place), named("notes/a.txt", id="ward-7")), place
    for place in apart:
        assert not same_records(named("notes/a.txt"), named(place)), place
        assert same_records(named("notes/a.txt", id="x"), named(place, id="x"))
    assert not same_records(recipe_of("stdlib"), recipe_of("packages"))
    assert same_records(recipe_of("hf:org/name"), recipe_of("hf:org/name", id="x"))  # which has no files here
    assert not same_records(recipe_of("hf:org/name"), recipe_of("hf:org/other", id="x"))


def test_a_name_of_ones_own_goes_before_and_others_are_sane() -> None:
    assert data_set_id(recipe_of("/a/b.csv", id="ward-7")) == "ward-7"
    assert data_set_id(recipe_of("stdlib")) == "stdlib"
    for source in ("/a/病历.csv", "/a/-.-", "hf:org/name", "/a/" + "x" * 200 + ".csv", "/a/*.csv"):
        named = recipe_of("/b", id=data_set_id(recipe_of(source)))  # the pattern of the key holds it
        assert named.data.id == data_set_id(recipe_of(source))
    for bad in ("", "../x", "a/b", ".hidden", "a b", "x" * 65, "a\n"):
        with pytest.raises(RecipeError, match=r"data\.id"):
            recipe_of(id=bad)


def test_where_it_lies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert folder() == tmp_path / "home/ledgers"
    monkeypatch.delenv("SHUYUAN_HOME")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    assert folder() == tmp_path / "data/shuyuan/ledgers"
    monkeypatch.delenv("XDG_DATA_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert folder() == tmp_path / ".local/share/shuyuan/ledgers"


# ---- what it adds up to ------------------------------------------------------------------------------------------------


def test_runs_add_up_and_the_same_draws_count_once() -> None:
    ledger_of(PRIVATE, "a").append(steps("a"))
    one = ledger_of(PRIVATE).together()
    ledger_of(PRIVATE, "copy").append(steps("a"))
    assert ledger_of(PRIVATE).together() == one
    ledger_of(PRIVATE, "b").append(steps("b"))
    two = ledger_of(PRIVATE).together()
    assert (one.runs, two.runs) == (1, 2) and two.epsilon > one.epsilon * 1.1


def test_entries_of_the_run_itself_count_where_the_ledger_lost_them() -> None:
    """The sum is never told below what the run at hand has spent."""
    lost = ledger_of(PRIVATE).together([steps("a")])
    ledger_of(PRIVATE).append(steps("a"))
    assert lost == ledger_of(PRIVATE).together([steps("a")]) == ledger_of(PRIVATE).together()
    assert lost.runs == 1 and lost.epsilon > 0


def test_another_unit_is_not_summed_and_named() -> None:
    """What one record costs bounds nothing of an owner with many, nor owners by one column those by another."""
    alone = recipe_of("/x.csv", privacy={}, owner="patient", id="d")
    ledger_of(alone).append(steps("a"))
    one = ledger_of(alone).together()
    assert one.uncovered == []
    for other in (
        recipe_of("/x.csv", privacy={"unit": "record"}, id="d"),
        recipe_of("/x.csv", privacy={}, owner="doctor", id="d"),
    ):
        assert other.privacy is not None
        ledger_of(other, "o").append(steps(str(other.data.owner), unit=other.privacy.unit))
        assert ledger_of(other).together().uncovered == ["unit"]
    mixed = ledger_of(alone).together()
    assert (mixed.epsilon, mixed.runs, mixed.uncovered) == (one.epsilon, 3, ["unit"])


def test_a_run_without_privacy_is_counted_and_no_epsilon_covers_it() -> None:
    ledger_of(PRIVATE).append(steps("a"))
    ledger_of(recipe_of()).append({"event": "training", "cost": "not covered", "draws": "b"})
    sums = ledger_of(PRIVATE).together()
    assert (sums.runs, sums.unprotected, sums.uncovered) == (2, 1, ["training"])
    table = ledger_of(recipe_of()).together().to_json()  # seen from the run without privacy
    assert table.keys() == {"id", "unit", "epsilon", "delta", "runs", "uncovered"}
    assert (table["unit"], table["epsilon"]) == ("owner", sums.epsilon)


def test_another_id_for_the_same_source_hides_no_run() -> None:
    ledger_of(recipe_of("/x.csv", privacy={}, owner="who")).append(steps("a"))
    renamed, other = (
        recipe_of(file, privacy={}, owner="who", id=name)
        for file, name in (("/x.csv", "new"), ("/y.csv", "y"))
    )
    assert ledger_of(renamed).together().uncovered == ["id"]
    assert ledger_of(renamed).other_ids() == [data_set_id(recipe_of("/x.csv"))]
    assert ledger_of(other).together().uncovered == []
    ledger_of(renamed).append(steps("b"))
    assert ledger_of(recipe_of("/x.csv", privacy={}, owner="who")).together().uncovered == ["id"]


def test_nothing_private_is_no_epsilon_at_all() -> None:
    assert ledger_of(PRIVATE).together().to_json()["epsilon"] is None
    ledger_of(PRIVATE).append(steps("a", noise_multiplier=0.0))
    assert ledger_of(PRIVATE).together().to_json()["epsilon"] is None


# ---- the file ----------------------------------------------------------------------------------------------------------

WRITER = """
import sys
from pathlib import Path
from shuyuan.privacy.data_sets import DataSetLedger
from shuyuan.recipe import from_table
ledger = DataSetLedger.of_run(from_table({"data": {"source": "stdlib"}}), Path("/runs", sys.argv[1]))
for number in range(40):
    ledger.append({"event": "release", "what": "model", "draws": f"{sys.argv[1]}-{number}"})
"""


def test_several_processes_write_at_once_and_no_line_is_lost() -> None:
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, name]) for name in "abc"]
    assert [writer.wait() for writer in writers] == [0, 0, 0]
    found = [entry["draws"] for entry in ledger_of(PRIVATE).entries()]
    assert sorted(found) == sorted(f"{name}-{number}" for name in "abc" for number in range(40))


def test_a_line_that_a_crash_left_half_written_is_passed_over() -> None:
    shared = ledger_of(PRIVATE)
    shared.append(steps("a"))
    with shared.path.open("ab") as out:
        out.write(b'{"event": "steps", "dra')
    assert len(list(shared.entries())) == 1
    shared.append(steps("b"))
    assert shared.together().runs == 2


def test_a_damaged_ledger_is_named_and_never_begun_anew() -> None:
    shared = ledger_of(PRIVATE)
    for draws in "abc":
        shared.append(steps(draws))
    lines = shared.path.read_bytes().splitlines(keepends=True)
    shared.path.write_bytes(lines[0] + lines[2])  # one run is taken out
    for act in (shared.together, lambda: list(shared.entries()), lambda: shared.append(steps("d"))):
        with pytest.raises(PrivacyError, match="stdlib") as caught:
            act()
        assert caught.value.code == "privacy.no-ledger" and str(shared.path) in str(caught.value.where)
    assert shared.path.read_bytes() == lines[0] + lines[2]


def test_it_holds_no_owner_and_no_record() -> None:
    shared = ledger_of(recipe_of("/x.csv", privacy={}, owner="patient"))
    shared.append(steps("a", units=700))
    (entry,) = shared.entries()
    assert entry.keys() - steps("a", units=700).keys() == {"run", "unit_by", "source", "time"}
    assert (entry["run"], entry["unit_by"]) == ("/runs/run", "patient")


# ---- entering ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def no_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SHUYUAN_HOME", str(tmp_path / "file"))


def test_without_a_place_to_write_a_private_run_is_refused_and_another_is_told(
    no_home: None, tmp_path: Path
) -> None:
    with pytest.raises(PrivacyError, match="SHUYUAN_HOME") as caught:
        ledger_of(PRIVATE).check_writable()
    assert caught.value.code == "privacy.no-ledger"
    heard, store = Progress(), OpenStore(tmp_path / "run")
    enter(recipe_of(), store, heard)
    assert list(heard.said) == ["privacy.not-noted"]
    assert not store.exists(LEDGER_FILE), "it is tried again at the next start"


def test_a_run_without_privacy_enters_once(tmp_path: Path) -> None:
    store = OpenStore(tmp_path / "run")
    for _ in range(3):
        heard = Progress()
        enter(recipe_of(), store, heard)
        assert heard.said == {}
    (entry,) = store.journal(LEDGER_FILE).entries()
    assert entry["cost"] == "not covered" and "memorised" in entry["meaning"]
    assert ledger_of(recipe_of()).together().runs == 1


def test_what_the_ledger_lost_is_entered_again_and_said(tmp_path: Path) -> None:
    store = OpenStore(tmp_path / "run")
    for draws in "ab":
        store.journal(LEDGER_FILE).append(steps(draws))
    ledger_of(PRIVATE).append(steps("a"))
    heard = Progress()
    enter(PRIVATE, store, heard)
    assert "lacked 1 entries" in heard.said["privacy.entered-again"]
    assert [entry["draws"] for entry in ledger_of(PRIVATE).entries()] == ["a", "b"]
    assert ledger_of(PRIVATE).lacking(store.journal(LEDGER_FILE).entries()) == []


@pytest.mark.parametrize("allow", [[], ["tuning"]])
def test_a_private_run_hears_of_others_and_of_tuning_unless_that_is_allowed(
    tmp_path: Path, allow: list[str]
) -> None:
    recipe, heard = recipe_of(privacy={"allow": allow}), Progress()
    enter(recipe, OpenStore(tmp_path / "run"), heard)
    assert heard.said == {}
    ledger_of(PRIVATE, "other").append(steps("a"))
    enter(recipe, OpenStore(tmp_path / "run"), heard)
    assert "stdlib: 1." in heard.said["privacy.other-runs"]
    assert ("tuning" in heard.said["privacy.other-runs"]) == (not allow)


def test_a_summary_with_a_damaged_ledger(tmp_path: Path) -> None:
    store = OpenStore(tmp_path / "run")
    folder().mkdir(parents=True)
    ledger_of(PRIVATE).path.write_text(json.dumps({"event": "steps"}) + "\n")
    assert together(recipe_of(), store) is None
    for ask in (lambda: together(PRIVATE, store), lambda: enter(PRIVATE, store, Progress())):
        with pytest.raises(PrivacyError, match="cannot be used"):
            ask()


# ---- loops of one's own ----------------------------------------------------------------------------------------------


def loop_on(name: str, steps: int = 2, *, made: int | None = None) -> PrivateLoop:
    """A loop over four records of three patients that names its data set, after so many steps; by default all."""
    model = torch.nn.Linear(2, 1)
    loop = make_private(
        model,
        torch.optim.SGD(model.parameters(), 0.1),
        units=[0, 0, 1, 2],
        expected_batch=2,
        steps=steps,
        epsilon=3.0,
        data_set=name,
        unit_by="patient",
    )
    for batch in itertools.islice(loop.batches(), steps if made is None else made):
        for rows in batch:
            loop.backward(model(torch.ones(len(rows), 2)).squeeze(1))
        loop.step()
    return loop


def test_a_loop_adds_to_the_runs_on_its_data_set() -> None:
    asked = recipe_of(privacy={}, id="notes", owner="patient")
    loop_on("notes")
    once = ledger_of(asked).together()
    assert (once.runs, once.unit) == (1, "owner")
    assert 2.5 < once.epsilon <= 3.0
    loop_on("notes")
    twice = ledger_of(asked).together()
    assert twice.runs == 2
    assert twice.epsilon > once.epsilon


def test_all_steps_of_a_loop_are_entered_before_the_first() -> None:
    asked = recipe_of(privacy={}, id="notes", owner="patient")
    loop_on("notes", steps=30, made=0)
    assert ledger_of(asked).together().runs == 0
    loop = loop_on("notes", steps=30, made=1)  # a loop that is broken off has still been promised all
    assert ledger_of(asked).together().epsilon == pytest.approx(loop.mechanism.epsilon(30), rel=1e-6)


@pytest.mark.parametrize("name", ["", "../notes", "a/b", "n" * 65])
def test_names_of_data_sets_that_are_none(name: str) -> None:
    with pytest.raises(PrivacyError, match="data_set"):
        loop_on(name)


def test_a_loop_is_refused_where_its_ledger_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "home").write_text("a file")
    with pytest.raises(PrivacyError, match="cannot be used"):
        loop_on("notes")
