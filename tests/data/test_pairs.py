"""Questions and texts: windows that hold every token, answers at the tokens that spell them, units with all their windows."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from shuyuan.data import FILL, Manifest, SpanRows, UnitRows, load_tokenizer, open_split, prepare
from shuyuan.data.pairs import NOWHERE, OVERLAP, Asked, filled_windows, longest_question, places, windows
from shuyuan.errors import DataError
from shuyuan.recipe import from_table
from shuyuan.vault import OpenStore
from tests.data.parts import Listener
from tests.span_runs import COLOURS, questions, recipe

AROUND = [[101], [102], [102]]
pytest.importorskip("transformers")


@settings(deadline=None)
@given(st.integers(1, 60), st.integers(1, 900), st.integers(8, 300))
def test_every_token_stands_in_a_window_and_every_short_answer_in_one_whole(
    question: int, text: int, context: int
) -> None:
    found = places(question, text, AROUND, context)
    room = context - 3 - min(question, longest_question(AROUND, context))
    assert found[0][0] == 0 and found[-1][1] == text
    assert all(stop - start == min(room, text) for start, stop in found)
    assert len(set(found)) == len(found)
    overlap = min(OVERLAP, room // 2)
    for (_, stop), (start, _) in pairwise(found):
        assert stop - start >= overlap, "an answer as long as the overlap is in one of them"


@settings(deadline=None)
@given(st.data())
def test_a_window_is_the_template_around_its_part_and_knows_where_the_answer_is(data: st.DataObject) -> None:
    question = data.draw(st.lists(st.integers(1, 50), min_size=1, max_size=20))
    text = list(range(200, 200 + data.draw(st.integers(1, 150))))
    start = data.draw(st.integers(0, len(text) - 1))
    stop = data.draw(st.integers(start + 1, len(text)))
    context = data.draw(st.integers(10, 64))
    rows = windows(Asked(question, text, (start, stop)), AROUND, context)
    inputs_N2T = filled_windows(rows, context)
    for row, (ids_T, side_T) in zip(rows, inputs_N2T, strict=True):
        asked = question[: longest_question(AROUND, context)]
        part = text[row.start : row.stop]
        length = len(asked) + len(part) + 3
        assert length <= context
        assert ids_T[:length].tolist() == [101, *asked, 102, *part, 102] and (ids_T[length:] == FILL).all()
        assert side_T[:length].tolist() == [0] * (len(asked) + 2) + [1] * (len(part) + 1)
        first, last = row.target((start, stop))
        if (first, last) == NOWHERE:
            assert start < row.start or stop > row.stop
        else:
            assert ids_T[first : last + 1].tolist() == text[start:stop]
    assert rows[0].target(None) == NOWHERE


# ---- prepared ------------------------------------------------------------------------------------------------------


def made(
    folder: Path, rows: list[dict[str, Any]], **more: Any
) -> tuple[OpenStore, Manifest, Listener, dict[str, Any]]:
    table = recipe(folder, rows, **more)
    store, progress = OpenStore(folder / "run"), Listener()
    return store, prepare(from_table(table), store, progress), progress, table


def test_targets_spell_the_answers_of_the_records(tmp_path: Path) -> None:
    rows = questions(60, fillers=40)
    store, manifest, _, _ = made(tmp_path, rows, model={"context": 24})
    tokenizer, known = load_tokenizer(store), {row["context"].strip(): row for row in rows}
    assert manifest.output == "spans" and not manifest.skipped
    held = 0
    for name in ("train", "validation"):
        split = open_split(store, manifest, name, 24)
        assert isinstance(split, SpanRows)
        assert split.count == manifest.splits[name].rows > split.records == manifest.splits[name].records
        for record in range(split.records):
            asked = split.asked(record)
            row = known[tokenizer.decode(asked.text).replace(" .", ".")]
            said = tokenizer.decode(asked.text[slice(*asked.answer)]) if asked.answer else None
            assert [said] == (row["answers"]["text"] or [None])
        for inputs_B2T, targets_B2 in split.in_order(7):
            assert inputs_B2T.shape[1] == 2 and inputs_B2T.shape[2] <= 24
            for (ids_T, side_T), (first, last) in zip(inputs_B2T, targets_B2.tolist(), strict=True):
                held += first > 0
                assert (first, last) == NOWHERE or (side_T[first : last + 1] == 1).all()
                assert first == 0 or tokenizer.decode(ids_T[first : last + 1]) in COLOURS
    assert held >= sum(bool(row["answers"]["text"]) for row in rows)


def test_wrong_places_are_mended_and_answers_that_stand_nowhere_are_left_out_and_said(tmp_path: Path) -> None:
    rows = [row for row in questions(90) if row["answers"]["text"]][:60]
    for number, row in enumerate(rows):
        row["context"] = (
            f"{row['answers']['text'][0]} {number} . {row['context']}"  # the answer stands there twice
        )
        row["answers"]["answer_start"][0] += len(row["context"]) - len(questions(90)[0]["context"])
    right = [row["context"].rindex(row["answers"]["text"][0]) for row in rows]
    for row, place in zip(rows, right, strict=True):
        row["answers"]["answer_start"] = [place + 2]  # a little off
    for row in rows[:5]:
        row["answers"]["text"] = ["purple"]
    store, manifest, progress, _ = made(tmp_path, rows)
    assert manifest.skipped == {"records whose answer does not stand in their context": 5}
    assert "5 records whose answer does not stand in their context" in progress.said["data.skipped"]
    for name in ("train", "validation"):
        split = open_split(store, manifest, name, 64)
        assert isinstance(split, SpanRows)
        for record in range(split.records):
            answer = split.asked(record).answer
            assert answer is not None and answer[0] > 0, "the place nearest to the one that is said"


def test_a_unit_gives_all_windows_of_its_records(tmp_path: Path) -> None:
    store, manifest, _, _ = made(
        tmp_path, questions(60, fillers=40), model={"context": 24}, data={"owner": "who"}
    )
    rows = UnitRows(store, manifest, 24, "owner", 10)
    units = np.arange(rows.count)
    batch = rows.rows(units, np.random.default_rng(0))
    assert len(batch.inputs_NT) == manifest.splits["train"].rows
    assert batch.inputs_NT.shape[1:] == (2, 24), "as long as the context, whatever they hold"
    assert (batch.targets_NT >= 0).all() and batch.targets_NT.shape[1] == 2
    assert set(batch.unit_N.tolist()) == set(units.tolist())
    nobody = rows.rows(np.zeros(0, np.int64), np.random.default_rng(0))
    assert nobody.inputs_NT.shape == (0, 2, 24) and nobody.targets_NT.shape == (0, 2)


def test_an_answer_that_no_window_holds_is_left_out(tmp_path: Path) -> None:
    rows = [row for row in questions(90) if row["answers"]["text"]][:50]
    rows[3]["context"] = "so " + "it " * 80
    rows[3]["answers"] = {"text": ["it " * 60 + "it"], "answer_start": [3]}
    _, manifest, _, _ = made(tmp_path, rows, model={"context": 24})
    assert manifest.skipped == {"records whose answer does not fit model.context = 24": 1}


def test_without_a_text_or_a_template_it_is_refused(tmp_path: Path) -> None:
    pairs = [{"question": f"what is {n}", "answer": "red"} for n in range(40)]
    with pytest.raises(DataError, match=r"data\.no-context"):
        made(tmp_path, pairs)
    table = recipe(tmp_path, questions(40))
    tokenizer = json.loads((tmp_path / "base/tokenizer.json").read_text())
    tokenizer["post_processor"] = None
    (tmp_path / "base/tokenizer.json").write_text(json.dumps(tokenizer))
    with pytest.raises(DataError, match=r"data\.no-pair"):
        prepare(from_table(table), OpenStore(tmp_path / "other"), Listener())


def test_a_causal_body_writes_its_answers_all_the_same(tmp_path: Path) -> None:
    from tests.models.hub_folders import written

    table = recipe(tmp_path, questions(40))
    written("gpt2", tmp_path / "gpt2")
    for model in ({"from": str(tmp_path / "gpt2"), "context": 64}, {"size": "tiny", "context": 64}):
        where = tmp_path / ("a" if "from" in model else "b")
        tokens = {"tokenizer": {"kind": "byte"}}
        manifest = prepare(from_table(table | tokens | {"model": model}), OpenStore(where), Listener())
        assert manifest.output == "tokens" and manifest.prompted


@settings(deadline=None, max_examples=50)
@given(st.text("ab ", min_size=1, max_size=30), st.integers(0, 40), st.data())
def test_an_answer_is_found_at_the_nearest_place(text: str, near: int, data: st.DataObject) -> None:
    from shuyuan.tasks.extractive import place_of

    start = data.draw(st.integers(0, len(text) - 1))
    answer = text[start : start + data.draw(st.integers(1, 3))]
    assume(answer)
    found = place_of(text, answer, near)
    assert found is not None and text[slice(*found)] == answer
    others = [place for place in range(len(text)) if text.startswith(answer, place)]
    assert abs(found[0] - near) == min(abs(place - near) for place in others)
    assert place_of(text, answer + "c", near) is None
