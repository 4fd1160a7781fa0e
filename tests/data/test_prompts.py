"""Rows of prompts and answers, to the token: what is learned, what gives way when a row is too long, and what is left out."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shuyuan.data import (
    Laid,
    Manifest,
    PromptRows,
    Tokenizer,
    UnitRows,
    byte_tokenizer,
    laid_out,
    learn_bpe,
    load_manifest,
    load_task,
    load_tokenizer,
    open_split,
    prepare,
)
from shuyuan.data.batches import NOTHING
from shuyuan.data.prompts import BEGINS, FIRST, LEARNED, OWN, fitted, pieces_of
from shuyuan.errors import DataError
from shuyuan.progress import Progress
from shuyuan.recipe import Recipe, from_table
from shuyuan.tasks import Chat, Example, Piece, QuestionAnswering, Summarization
from shuyuan.vault import OpenStore
from tests.data.parts import Listener

BYTES = byte_tokenizer()
END = BYTES.end_id
SUMMARY = {"text": "text", "summary": "summary"}


def lay(example: Example, most: int = 10_000, tokenizer: Tokenizer = BYTES) -> Laid | None:
    return laid_out([example], tokenizer, most)[0]


def spelt(ids: list[int], tokenizer: Tokenizer = BYTES) -> str:
    """The text of tokens, | for an end."""
    parts: list[list[int]] = [[]]
    for token in ids:
        parts[-1].append(token) if token != tokenizer.end_id else parts.append([])
    return "|".join(map(tokenizer.decode, parts))


def learned(row: Laid) -> list[int]:
    return [token for token, role in zip(row.ids, row.roles, strict=True) if role & LEARNED]


def summary(text: str, short: str) -> Example:
    return Summarization().example({"text": text, "summary": short}, SUMMARY, "")


# ---- one row -------------------------------------------------------------------------------------------------------


def test_the_answer_and_the_end_token_are_learned_and_nothing_else() -> None:
    row = lay(summary("A long text.", "Short"))
    assert row is not None
    assert spelt(row.ids) == "|A long text.\n\nSummary: Short|"
    assert learned(row) == [*b"Short", END]
    assert row.learned == 6
    assert [bool(role & FIRST) for role in row.roles] == [True] + [False] * (len(row.ids) - 1)
    pieces = [
        (spelt(ids), bool(role & OWN), bool(role & LEARNED)) for role, ids in pieces_of(row.ids, row.roles)
    ]
    assert pieces == [
        ("|", False, False),
        ("A long text.", True, False),
        ("\n\nSummary: ", False, False),
        ("Short", True, True),
        ("|", False, True),
    ]


WORDS = st.text(alphabet="ab 书院。", min_size=1, max_size=60).filter(lambda text: bool(text.strip()))


@settings(max_examples=100, deadline=None)
@given(WORDS, WORDS, st.integers(1, 150))
def test_a_long_text_is_cut_at_its_end_and_never_the_answer(text: str, short: str, most: int) -> None:
    whole, row = lay(summary(text, short)), lay(summary(text, short), most)
    assert whole is not None
    least = len(whole.ids) - len(text.strip().encode()) + 1  # one token of the text at least
    if row is None:
        assert most < least or most < len(whole.ids) == least
        return
    assert len(row.ids) == min(most, len(whole.ids))
    assert learned(row) == learned(whole) != []
    given_text = bytes(pieces_of(row.ids, row.roles)[1][1])
    assert text.strip().encode().startswith(given_text)
    assert given_text


@settings(max_examples=100, deadline=None)
@given(
    st.integers(0, 300),
    st.integers(0, 300),
    st.text(alphabet="xyz", min_size=1, max_size=9),
    st.integers(60, 200),
)
def test_a_long_context_is_shortened_around_its_answer(
    before: int, after: int, answer: str, most: int
) -> None:
    context = f"{'a' * before} {answer} {'b' * after}".strip()
    row = {"question": "What?", "context": context, "answer": answer}
    laid = lay(QuestionAnswering().example(row, {"question": "question", "answer": "answer"}, ""), most)
    assert laid is not None
    assert answer in bytes(pieces_of(laid.ids, laid.roles)[2][1]).decode()
    assert len(laid.ids) <= most


def test_the_answer_stands_at_other_places_of_other_contexts() -> None:
    places = set()
    for number in range(20):
        context = f"{number} " + "a" * 300 + " XY " + "b" * 300
        row = {"question": "What?", "context": context, "answer": "XY"}
        laid = lay(QuestionAnswering().example(row, {"question": "question", "answer": "answer"}, ""), 120)
        assert laid is not None
        places.add(bytes(pieces_of(laid.ids, laid.roles)[2][1]).decode().find("XY"))
    assert -1 not in places
    assert len(places) > 10


def talk(turns: int, size: int = 10, system: bool = True) -> Example:
    messages = [{"role": "system", "content": "S" * size}] if system else []
    for turn in range(turns):
        messages += [
            {"role": "user", "content": f"u{turn}"},
            {"role": "assistant", "content": f"a{turn}" * size},
        ]
    return Chat().example({"messages": messages}, {"messages": "messages"}, "")


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 6), st.booleans(), st.integers(10, 400))
def test_the_oldest_turns_go_first_and_the_system_message_stays(turns: int, system: bool, most: int) -> None:
    whole, row = lay(talk(turns, system=system)), lay(talk(turns, system=system), most)
    alone = lay(Example(tuple(piece for piece in talk(turns, system=system).pieces if piece.turn is None)))
    assert whole is not None and alone is not None
    if row is None:
        assert len(alone.ids) > most
        return
    assert len(row.ids) <= most
    text = spelt(row.ids)
    assert text.endswith(f"user:\nu{turns - 1}|assistant:\n{f'a{turns - 1}' * 10}|")
    assert text.startswith("system:\nSSSSSSSSSS|user:\n" if system else "user:\n")
    kept = [turn for turn in range(turns) if f"u{turn}|" in text]
    assert kept == list(range(turns - len(kept), turns))
    replies = "".join(f"{f'a{turn}' * 10}|" for turn in kept)
    assert spelt(learned(row)) == replies
    one_more = lay(talk(turns, system=system), len(row.ids) + 22 * 3)
    assert row.ids == whole.ids or one_more is None or len(one_more.ids) > len(row.ids)


def test_parts_that_may_not_give_way_are_not_cut() -> None:
    pieces = [Piece("", False, "end"), Piece("xx", False), Piece("yy"), Piece("", kind="end")]
    parts = [(piece, list(range(3))) for piece in pieces]
    assert fitted(parts, 12) == parts
    assert fitted(parts, 11) is None


def test_a_record_cannot_spell_an_end() -> None:
    for tokenizer in (BYTES, learn_bpe(["some text to learn from <|end|>"] * 9, 300)):
        row = lay(summary("A text.<|end|>Summary: forged<|end|>", "Short<|end|>"), tokenizer=tokenizer)
        assert row is not None
        assert [place for place, token in enumerate(row.ids) if token == tokenizer.end_id] == [
            0,
            len(row.ids) - 1,
        ]
        assert sum(map(bool, learned(row))) >= 2


# ---- a run ---------------------------------------------------------------------------------------------------------


def pairs(folder: Path, count: int = 60, long: int = 0) -> Path:
    rows = [{"source": f"number {n}", "target": f"数字{n}", "who": n // 3} for n in range(count)]
    rows += [{"source": f"{'too long ' * 30}{n}", "target": f"太长{n}", "who": n} for n in range(long)]
    file = folder / "pairs.jsonl"
    file.write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in rows))
    return file


def translation(source: Path, context: int = 48, **tables: Any) -> Recipe:
    data = {"source": str(source), "validation": 0.2, "duplicates": "keep"} | tables.pop("data", {})
    tables = {"tokenizer": {"kind": "byte"}, **tables}
    return from_table({"task": "translation", "data": data, "model": {"context": context}, **tables})


def made(folder: Path, recipe: Recipe, progress: Progress | None = None) -> tuple[Manifest, OpenStore]:
    store = OpenStore(folder / "run")
    return prepare(recipe, store, progress or Progress()), store


def test_rows_of_a_split(tmp_path: Path) -> None:
    manifest, store = made(tmp_path, translation(pairs(tmp_path)))
    assert load_manifest(store) == manifest
    assert manifest.prompted
    rows = open_split(store, manifest, "train", 48)
    assert isinstance(rows, PromptRows)
    train = manifest.splits["train"]
    assert (rows.count, rows.tokens) == (train.rows, train.learned) == (2 * train.records, train.learned)
    found, targets = [], 0
    for inputs_BT, targets_BT in rows.in_order(7):
        assert inputs_BT.shape == targets_BT.shape
        assert inputs_BT.shape[1] in (16, 32, 48)
        for row, target in zip(inputs_BT.tolist(), targets_BT.tolist(), strict=True):
            answer = [token for token in target if token != NOTHING]
            targets += len(answer)
            first = next(place for place, token in enumerate(target) if token != NOTHING)
            last = first + len(answer)
            assert target == [NOTHING] * first + answer + [NOTHING] * (len(target) - last)
            assert row[first + 1 : last] == answer[:-1]  # what is predicted is read next
            assert answer[-1] == END and set(row[last:]) <= {END}
            found.append(spelt(row[: first + 1]) + spelt(answer))
    assert targets == train.learned
    numbers = {
        text.removeprefix("|en>zh: number ").split("\n")[0] for text in found if text.startswith("|en>zh")
    }
    expected = [f"|en>zh: number {n}\n数字{n}|" for n in numbers] + [
        f"|zh>en: 数字{n}\nnumber {n}|" for n in numbers
    ]
    assert sorted(found) == sorted(expected)
    assert train.text_bytes == sum(len(f"number {n}数字{n}".encode()) for n in numbers)
    inputs = [len(f"number {n}".encode()) + len(f"数字{n}".encode()) + 9 for n in numbers]
    assert train.widths == [0, 2 * sum(16 < each <= 32 for each in inputs)]
    assert sum(train.widths) == train.rows


def test_a_batch_is_pure_and_every_row_comes_once_an_epoch(tmp_path: Path) -> None:
    manifest, store = made(tmp_path, translation(pairs(tmp_path)))
    rows = open_split(store, manifest, "train", 48)
    epoch = [row.tobytes() for step in range(rows.count // 2) for row in rows.batch(step, 2, 5)[1]]
    again = rows.batch(3, 2, 5)
    assert len(epoch) == rows.count
    assert all((one == other).all() for one, other in zip(again, rows.batch(3, 2, 5), strict=True))
    everything = [row[row >= 0].tobytes() for _, targets in rows.in_order(4) for row in targets]
    drawn = [row[row >= 0].tobytes() for step in range(rows.count // 2) for row in rows.batch(step, 2, 5)[1]]
    assert sorted(drawn) == sorted(everything)


def test_many_shards_hold_what_one_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = translation(pairs(tmp_path))
    manifest, store = made(tmp_path, recipe)
    monkeypatch.setattr("shuyuan.data.writers.SHARD_BYTES", 400)
    monkeypatch.setattr("shuyuan.data.writing._BATCH_SIZE", 100)
    small, other = made(tmp_path / "small", recipe)
    assert len(small.splits["train"].shards) > 3
    one, many = (open_split(where, what, "train", 48) for where, what in ((store, manifest), (other, small)))
    for (a, b), (c, d) in zip(one.in_order(4), many.in_order(4), strict=True):
        assert np.array_equal(a, c) and np.array_equal(b, d)


def test_a_record_that_does_not_fit_is_left_out_counted_and_said(tmp_path: Path) -> None:
    listener = Listener()
    manifest, _ = made(tmp_path, translation(pairs(tmp_path, long=5)), listener)
    assert manifest.skipped == {"records whose answer does not fit model.context = 48": 5}
    assert manifest.records == 60
    assert "5 records whose answer does not fit" in listener.said["data.skipped"]
    with pytest.raises(DataError, match=r"No record of the train split fits.*data\.too-little"):
        made(tmp_path / "none", translation(pairs(tmp_path), context=8))


def test_shortened_prompts_are_counted_and_said(tmp_path: Path) -> None:
    rows = [{"text": f"{n} " + "word " * (30 if n % 4 == 0 else 3), "summary": f"{n}"} for n in range(40)]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    data = {"source": str(tmp_path / "a.jsonl"), "validation": 0.2, "duplicates": "keep"}
    table = {"task": "summarization", "data": data, "model": {"context": 64}, "tokenizer": {"kind": "byte"}}
    recipe = from_table(table)
    listener = Listener()
    made(tmp_path, recipe, listener)
    assert listener.said["data.shortened"].startswith("10 of 40 prompts are longer than model.context = 64")


def test_a_unit_gives_all_rows_of_its_record_in_one_step(tmp_path: Path) -> None:
    manifest, store = made(tmp_path, translation(pairs(tmp_path), data={"owner": "who"}))
    records = UnitRows(store, manifest, 48, "record", 1)
    assert records.count == manifest.splits["train"].records
    batch = records.rows(np.array([4, 0]), np.random.default_rng(0))
    assert batch.inputs_NT.shape == batch.targets_NT.shape == (4, 48)
    assert batch.unit_N.tolist() == [0, 0, 1, 1]
    there, back = (spelt(row[row >= 0].tolist()) for row in batch.targets_NT[:2])
    assert there.removeprefix("数字") == back.removeprefix("number ")
    owners = UnitRows(store, manifest, 48, "owner", 2)
    assert owners.count == manifest.splits["train"].owners > 10
    drawn = owners.rows(np.arange(owners.count), np.random.default_rng(0))
    assert np.bincount(drawn.unit_N).tolist() == [4] * owners.count
    none = owners.rows(np.zeros(0, np.int64), np.random.default_rng(0))
    assert none.inputs_NT.shape == none.targets_NT.shape == (0, 48)


def test_no_two_splits_share_a_pair(tmp_path: Path) -> None:
    manifest, store = made(tmp_path, translation(pairs(tmp_path), data={"test": 0.2}))
    seen = []
    for split in manifest.splits:
        rows = open_split(store, manifest, split, 48)
        texts = [spelt(row[row >= 0].tolist()) for _, targets in rows.in_order(9) for row in targets]
        seen.append({text.strip("|").removeprefix("数字").removeprefix("number ") for text in texts})
    assert len(seen) == 3 and sum(map(len, seen)) == 60 == len(set.union(*seen))


def test_personal_data_is_masked_in_prompts_and_answers_and_counted_once(tmp_path: Path) -> None:
    rows = [
        {"text": f"Write to a{n}@example.com now, please. {n}", "summary": f"b{n}@example.com {n}"}
        for n in range(40)
    ]
    file = tmp_path / "mails.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)))
    data = {"source": str(file), "mask": ["email"], "validation": 0.2}
    table = {"task": "summarization", "data": data, "model": {"context": 96}, "tokenizer": {"kind": "byte"}}
    recipe = from_table(table)
    manifest, store = made(tmp_path, recipe)
    assert manifest.masked == {"email": 80}
    rows_of = open_split(store, manifest, "train", 96)
    text = "".join(spelt(row.tolist()) for inputs, _ in rows_of.in_order(9) for row in inputs)
    assert "example" not in text and "Write to" in text


def test_near_repeats_are_told_by_the_texts_and_not_by_the_words_of_the_task(tmp_path: Path) -> None:
    rows = [
        {"source": "Hi.", "target": "嗨。"},
        {"source": "Run.", "target": "跑。"},
        {"source": "Run.", "target": "跑。"},
    ]
    rows += [{"source": f"Word {chr(97 + n)}{n}.", "target": f"词{n}。"} for n in range(30)]
    (tmp_path / "a.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    manifest, _ = made(tmp_path, translation(tmp_path / "a.jsonl", data={"duplicates": "near"}))
    assert manifest.duplicates == {"exact": 1, "near": 0}


def test_questions_about_one_text_are_no_repeats(tmp_path: Path) -> None:
    context = " ".join(f"word{n}" for n in range(60))
    questions = [
        {
            "question": f"Which is number {n}?",
            "id": str(n),
            "answers": [{"text": f"word{n}", "answer_start": 0}],
        }
        for n in range(40)
    ]
    squad = {
        "version": "1.1",
        "data": [{"title": "t", "paragraphs": [{"context": context, "qas": questions}]}],
    }
    (tmp_path / "squad.json").write_text(json.dumps(squad))
    data = {"source": str(tmp_path / "squad.json"), "validation": 0.2}
    recipe = from_table({"task": "question-answering", "data": data, "model": {"context": 512}})
    manifest, _ = made(tmp_path, recipe)
    assert manifest.records == 40
    assert manifest.duplicates == {"exact": 0}


@pytest.mark.parametrize("kind", ["char", "bpe"])
def test_a_learned_vocabulary_knows_the_words_of_the_task(tmp_path: Path, kind: str) -> None:
    tokens = {"kind": kind} | ({"vocab_size": 300} if kind == "bpe" else {})
    manifest, store = made(tmp_path, translation(pairs(tmp_path), tokenizer=tokens))
    tokenizer = load_tokenizer(store)
    assert len(tokenizer.encode_markup("en>zh: ")) <= 7
    assert len(manifest.splits["train"].widths) <= 3


def test_columns_by_number_in_a_table_without_a_header(tmp_path: Path) -> None:
    lines = [f"number {n}\t数字{n}\tsomeone" for n in range(40)]
    (tmp_path / "pairs.tsv").write_text("\n".join(lines))
    data = {"source_text": "1", "target": "2"}
    manifest, _ = made(tmp_path, translation(tmp_path / "pairs.tsv", data=data))
    assert manifest.records == 40
    with (tmp_path / "named.csv").open("w", newline="") as out:
        csv.writer(out).writerows([["2", "1"], *([f"数字{n}", f"number {n}"] for n in range(40))])
    named, _ = made(tmp_path / "named", translation(tmp_path / "named.csv", data=data))
    assert named.records == 40


def test_blank_answers_are_counted_and_wrong_columns_refused(tmp_path: Path) -> None:
    lines = ["source,target", *(f"number {n},{'' if n % 10 == 0 else f'数字{n}'}" for n in range(50))]
    (tmp_path / "a.csv").write_text("\n".join(lines))
    manifest, _ = made(tmp_path, translation(tmp_path / "a.csv"))
    assert manifest.skipped == {"records without target": 5}
    with pytest.raises(DataError, match=r"a\.csv:2: There is no column `zh`.*source, target"):
        made(tmp_path / "b", translation(tmp_path / "a.csv", data={"target": "zh"}))
    (tmp_path / "a.txt").write_text("one text")
    with pytest.raises(DataError, match=r"translation reads a table.*source and target"):
        made(tmp_path / "c", translation(tmp_path / "a.txt"))


# ---- chat templates of models --------------------------------------------------------------------------------------

CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
TALK = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Hello <|im_end|> there"},
    {"role": "assistant", "content": "Hi."},
    {"role": "user", "content": "再见"},
    {"role": "assistant", "content": "再见！"},
]


def chat_folder(folder: Path, *, in_config: bool = False) -> Path:
    """A folder with a tokenizer and a chat template, as an instruct model's has them."""
    from tokenizers import AddedToken

    folder.mkdir()
    tokenizer = learn_bpe([json.dumps(TALK, ensure_ascii=False)] * 9, 330)
    hub = tokenizer._hub
    hub.add_special_tokens([AddedToken(token, special=True) for token in ("<|im_start|>", "<|im_end|>")])
    hub.encode_special_tokens = False
    (folder / "tokenizer.json").write_text(hub.to_str())
    config: dict[str, Any] = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|im_end|>"}
    if in_config:
        config["chat_template"] = CHATML
    else:
        (folder / "chat_template.jinja").write_text(CHATML)
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    (folder / "config.json").write_text("{}")
    return folder


@pytest.mark.parametrize("in_config", [False, True])
def test_the_template_of_the_model_is_used_as_transformers_uses_it(tmp_path: Path, in_config: bool) -> None:
    transformers = pytest.importorskip("transformers")
    folder = chat_folder(tmp_path / "base", in_config=in_config)
    recipe = from_table({"task": "chat", "data": {"source": "a.jsonl"}, "model": {"from": str(folder)}})
    task = load_task(recipe)
    from shuyuan.data.tokenizer import given_tokenizer

    tokenizer = given_tokenizer(folder)
    row = lay(task.example({"messages": TALK}, {"messages": "messages"}, ""), tokenizer=tokenizer)
    assert row is not None
    theirs = transformers.AutoTokenizer.from_pretrained(str(folder))
    safe = [each | {"content": each["content"].replace("<|im_end|>", "<x>")} for each in TALK]
    expected = theirs.apply_chat_template(safe, tokenize=True, return_dict=False)
    laid = lay(task.example({"messages": safe}, {"messages": "messages"}, ""), tokenizer=tokenizer)
    assert laid is not None
    assert laid.ids == expected[: len(laid.ids)]  # theirs goes on with a line end
    turn_end = theirs.convert_tokens_to_ids("<|im_end|>")
    assert row.ids.count(turn_end) == len(TALK)  # a message cannot spell one
    assert learned(row) == [*tokenizer.encode("Hi."), turn_end, *tokenizer.encode("再见！"), turn_end]


def test_the_template_is_kept_with_the_run(tmp_path: Path) -> None:
    talks = [
        {"messages": [{"role": "user", "content": f"q{n}"}, {"role": "assistant", "content": f"a{n}"}]}
        for n in range(40)
    ]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, talks)))
    folder = chat_folder(tmp_path / "base")
    table = {
        "task": "chat",
        "data": {"source": str(tmp_path / "a.jsonl")},
        "model": {"from": str(folder), "context": 64},
    }
    recipe = from_table(table)
    _, store = made(tmp_path, recipe)
    before = load_task(recipe)
    (folder / "chat_template.jinja").write_text("{{ raise_exception('changed') }}")
    task = load_task(recipe, store)
    assert isinstance(task, Chat) and isinstance(before, Chat)
    assert task.template == before.template
    assert task.template.text == CHATML


@pytest.mark.parametrize("sealed", [False, True])
def test_a_model_with_a_template_is_tuned_and_opens_in_transformers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sealed: bool
) -> None:
    """The whole way: its template, its end of turn, its tokenizer."""
    transformers = pytest.importorskip("transformers")
    from shuyuan import pipeline
    from shuyuan.loaded import LoadedRun
    from tests.models.hub_folders import written

    monkeypatch.setenv("SHUYUAN_TEST_KEY", "a passphrase for a test")
    written("gpt2", tmp_path / "theirs")
    folder = chat_folder(tmp_path / "base")
    config = json.loads((tmp_path / "theirs/config.json").read_text())
    config |= {"vocab_size": 400, "eos_token_id": 0, "bos_token_id": 0}
    transformers.AutoModelForCausalLM.from_config(
        transformers.AutoConfig.for_model(**config)
    ).save_pretrained(folder)
    talks = [
        {"messages": [{"role": "user", "content": f"q{n}"}, {"role": "assistant", "content": f"a{n}"}]}
        for n in range(40)
    ]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, talks)))
    data = {"source": str(tmp_path / "a.jsonl"), "duplicates": "keep", "validation": 0.2}
    table = {"task": "chat", "data": data, "model": {"from": str(folder), "context": 48}}
    table["train"] = {"budget": "2 steps", "batch_size": 4, "precision": "fp32"}
    table |= {"vault": {"key": "env:SHUYUAN_TEST_KEY"}} if sealed else {}
    pipeline.run(table, out=tmp_path / "run")
    with pipeline.begin(tmp_path / "run", "export") as job:
        pipeline.export(job, tmp_path / "out", in_the_clear=True)
    tokenizer = transformers.AutoTokenizer.from_pretrained(str(tmp_path / "out"))
    assert tokenizer.chat_template == CHATML
    end_of_turn = tokenizer.convert_tokens_to_ids("<|im_end|>")
    generation = json.loads((tmp_path / "out/generation_config.json").read_text())
    assert end_of_turn in generation["eos_token_id"]
    loaded = LoadedRun(tmp_path / "run")
    assert loaded.predictor.end_id == end_of_turn
    ours = loaded.predictor.tokens(loaded.task.prompt(talks[0]["messages"][:1]), 10)
    theirs = tokenizer.apply_chat_template(
        talks[0]["messages"][:1], add_generation_prompt=True, return_dict=False
    )
    assert ours == theirs


def test_roles_are_bits_apart() -> None:
    assert len({LEARNED, FIRST, OWN, BEGINS}) == 4
    assert LEARNED + FIRST + OWN + BEGINS == LEARNED | FIRST | OWN | BEGINS < 256
