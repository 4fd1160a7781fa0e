"""From a recipe to shards: what goes in comes out, nothing twice, nothing on both sides, nothing half made."""

from __future__ import annotations

import gzip
import json
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from shuyuan.data import (
    UnitRows,
    load_manifest,
    load_tokenizer,
    vocabulary,
)
from shuyuan.data.manifest import Manifest
from shuyuan.data.shards import Shard
from shuyuan.vault import OpenStore
from tests.data.parts import Listener, jsonl, lines, prepared, recipe_of, records_in, sentences

SPLITS = ("train", "validation", "test")


def everything(store: OpenStore, manifest: Manifest) -> list[str]:
    return [record for split in manifest.splits for record in records_in(store, manifest, split)]


@pytest.mark.parametrize("tokenizer", ["byte", "char", "bpe"])
def test_every_record_comes_out_once(tmp_path: Path, tokenizer: str) -> None:
    texts = [f"{text} 书院 {number} <|end|>" for number, text in enumerate(sentences(300))]
    source = lines(tmp_path / "a.txt", texts)
    manifest, store = prepared(
        tmp_path / "run", recipe_of(source, tokenizer, record="line", validation=0.2, test=0.1)
    )
    assert sorted(everything(store, manifest)) == sorted(texts)
    assert records_in(store, manifest, "train") == [
        text for text in texts if text in set(records_in(store, manifest, "train"))
    ]
    tokenizer_there = load_tokenizer(store)
    assert manifest.vocab_size == tokenizer_there.vocab_size
    assert manifest.tokenizer.kind == tokenizer
    assert manifest.tokenizer.end_id == tokenizer_there.end_id
    for name in SPLITS:
        split, records = manifest.splits[name], records_in(store, manifest, name)
        assert split.records == split.owners == len(records) > 10
        assert split.text_bytes == sum(len(record.encode()) for record in records)
        assert split.tokens == sum(len(tokenizer_there.encode(record)) + 1 for record in records)
    assert manifest.text_bytes == sum(len(text.encode()) for text in texts)
    assert load_manifest(store) == manifest


def test_a_single_text_is_held_out_from_its_end(tmp_path: Path) -> None:
    text = "".join(f"{line}\n" for line in sentences(4000))
    (tmp_path / "a.txt").write_text(text)
    manifest, store = prepared(tmp_path / "run", recipe_of(tmp_path / "a.txt", validation=0.2, test=0.1))
    parts = ["".join(records_in(store, manifest, split)) for split in SPLITS]
    assert "".join(parts) == text
    for part, share in zip(parts, (0.7, 0.2, 0.1), strict=True):
        assert abs(len(part) / len(text) - share) < 0.01
    assert manifest.duplicates == {}


def test_what_a_record_of_a_table_is_cannot_be_chosen(tmp_path: Path) -> None:
    texts = [f"{line} {number}" for number, line in enumerate(sentences(200))]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    (tmp_path / "a.txt").write_text("\n".join(texts))
    for file, said in (("a.jsonl", True), ("a.txt", False)):
        listener = Listener()
        prepared(tmp_path / f"{file} run", recipe_of(tmp_path / file, record="line"), listener)
        assert ("data.no-effect" in listener.said) is said


def test_a_single_text_that_repeats_itself_is_kept_whole(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("the same line again\n" * 5000)
    listener = Listener()
    manifest, _ = prepared(tmp_path / "run", recipe_of(tmp_path / "a.txt", min_chars=100_000), listener)
    assert "data.no-effect" in listener.said
    assert manifest.text_bytes == 100_000


def test_a_folder_gives_a_record_for_each_file(tmp_path: Path) -> None:
    folder = tmp_path / "notes"
    folder.mkdir()
    texts = sentences(60, words=30)
    for number, text in enumerate(texts):
        (folder / f"{number:03d}.md").write_text(text)
    (folder / "bad.txt").write_bytes(b"\xff\xfe\xff")
    listener = Listener()
    manifest, store = prepared(tmp_path / "run", recipe_of(folder, validation=0.2), listener)
    assert sorted(everything(store, manifest)) == sorted(texts)
    assert sum(manifest.skipped.values()) == 1
    assert "1 " in listener.said["data.skipped"]


def test_no_owner_is_on_both_sides(tmp_path: Path) -> None:
    choose = random.Random(0)
    rows = [{"text": text, "who": choose.randrange(40)} for text in sentences(800)]
    source = jsonl(tmp_path / "a.jsonl", rows)
    manifest, store = prepared(tmp_path / "run", recipe_of(source, owner="who", validation=0.2, test=0.2))
    who = {row["text"]: row["who"] for row in rows}
    owners = [{who[record] for record in records_in(store, manifest, split)} for split in SPLITS]
    assert sum(map(len, owners)) == len(set.union(*owners)) == 40
    assert [manifest.splits[split].owners for split in SPLITS] == [len(part) for part in owners]
    for split in SPLITS:
        with store.open(manifest.splits[split].shards[0].name) as reader:
            hashes = Shard(reader, split).owners().tolist()
        pairs = set(zip(hashes, (who[record] for record in records_in(store, manifest, split)), strict=True))
        assert len(pairs) == len({one for one, _ in pairs}) == len({other for _, other in pairs})


def test_added_records_move_no_others(tmp_path: Path) -> None:
    texts = sentences(400)
    few, fewer = prepared(
        tmp_path / "few", recipe_of(lines(tmp_path / "few.txt", texts[:250]), record="line")
    )
    many, more = prepared(tmp_path / "many", recipe_of(lines(tmp_path / "many.txt", texts), record="line"))
    for split in ("train", "validation"):
        assert set(records_in(fewer, few, split)) == set(records_in(more, many, split)) & set(texts[:250])


def test_separate_files_are_held_out_whole(tmp_path: Path) -> None:
    texts = sentences(300)
    held_out = [*texts[:20], texts[0], "one of its own, said nowhere else"]
    source = lines(tmp_path / "a.txt", texts)
    validation = lines(tmp_path / "v.txt", held_out)
    test = jsonl(tmp_path / "t.jsonl", [{"text": text} for text in texts[20:40]])
    recipe = recipe_of(source, record="line", validation=str(validation), test=str(test))
    manifest, store = prepared(tmp_path / "run", recipe)
    assert records_in(store, manifest, "validation") == held_out
    assert records_in(store, manifest, "test") == texts[20:40]
    assert records_in(store, manifest, "train") == texts[40:]
    assert manifest.duplicates["exact"] == 40


def test_duplicates_go_and_are_counted(tmp_path: Path) -> None:
    texts = sentences(200, words=40)
    near = [text + " indeed" for text in texts[:10]]
    source = lines(tmp_path / "a.txt", [*texts, *texts[:30], *near])
    counts = {}
    for kind in ("near", "exact", "keep"):
        manifest, store = prepared(tmp_path / kind, recipe_of(source, record="line", duplicates=kind))
        counts[kind] = (manifest.duplicates, len(everything(store, manifest)))
    assert counts == {
        "near": ({"exact": 30, "near": 10}, 200),
        "exact": ({"exact": 30}, 210),
        "keep": ({}, 240),
    }


@pytest.mark.parametrize(("unit", "near"), [("owner", 10), ("record", 0)])
def test_of_private_records_nearly_alike_ones_go_within_a_unit_alone(
    tmp_path: Path, unit: str, near: int
) -> None:
    texts = sentences(100, words=40)
    rows = [{"text": text, "who": number % 20} for number, text in enumerate(texts)]
    rows += [{"text": f"{row['text']} indeed", "who": row["who"]} for row in rows[:10]]
    rows += [{"text": f"{row['text']} indeed", "who": 100 + row["who"]} for row in rows[:10]]  # type: ignore[operator]
    recipe = recipe_of(jsonl(tmp_path / "a.jsonl", rows), owner="who", duplicates="near")
    manifest, _ = prepared(tmp_path / "run", recipe.replace(privacy={"epsilon": 3.0, "unit": unit}))
    assert manifest.duplicates == {"exact": 0, "near": near}


def test_personal_data_is_masked_and_counted(tmp_path: Path) -> None:
    texts = [
        f"{text} 电话13812345678 or a@example.com, case K-{number}"
        for number, text in enumerate(sentences(100))
    ]
    for tokenizer in ("byte", "char", "bpe"):
        recipe = recipe_of(
            lines(tmp_path / "a.txt", texts),
            tokenizer,
            record="line",
            mask=["phone"],
            mask_patterns={"case": r"K-\d+"},
        )
        listener = Listener()
        manifest, store = prepared(tmp_path / tokenizer, recipe, listener)
        assert manifest.masked == {"phone": 100, "case": 100}
        assert "100 phone" in listener.said["data.masked"]
        for record in everything(store, manifest):
            assert record.endswith("电话[phone] or a@example.com, case [case]")
        words = json.loads(load_tokenizer(store).to_json())["model"]["vocab"]
        assert not [token for token in words if "138" in token]
        assert tokenizer != "char" or "K" not in words


def test_the_stdlib_is_split_by_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sysconfig

    for number, text in enumerate(sentences(60, words=20)):
        folder = tmp_path / f"lib/module{number % 30}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{number}.py").write_text(f'"""{text}"""\n')
    monkeypatch.setattr(sysconfig, "get_path", lambda name: str(tmp_path / "lib"))
    manifest, _ = prepared(tmp_path / "run", recipe_of("stdlib", duplicates="keep", validation=0.3))
    assert manifest.splits["train"].owners + manifest.splits["validation"].owners == 30
    assert manifest.splits["train"].records + manifest.splits["validation"].records == 120


@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.json", "a.jsonl.gz", "a.html"])
def test_formats_come_out_alike(tmp_path: Path, name: str) -> None:
    texts = sentences(80, words=20)
    file = tmp_path / name
    if name == "a.csv":
        file.write_text("id,text\n" + "".join(f'{number},"{text}"\n' for number, text in enumerate(texts)))
    elif name == "a.tsv":
        file.write_text("id\ttext\n" + "".join(f"{number}\t{text}\n" for number, text in enumerate(texts)))
    elif name == "a.json":
        file.write_text(json.dumps({"rows": [{"text": text} for text in texts]}))
    elif name == "a.html":
        file.write_text("".join(f"<p>{text}</p>" for text in texts))
    else:
        file.write_bytes(gzip.compress("".join(json.dumps({"text": text}) + "\n" for text in texts).encode()))
    manifest, store = prepared(tmp_path / "run", recipe_of(file, record="line"))
    assert sorted(everything(store, manifest)) == sorted(texts)


def test_a_large_source_gives_a_fair_sample(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = lines(tmp_path / "a.txt", sentences(2000))
    monkeypatch.setattr(vocabulary, "SAMPLE_BYTES", 10_000)
    learned: list[str] = []
    real = vocabulary.learn_bpe
    monkeypatch.setattr(
        vocabulary, "learn_bpe", lambda texts, size: real(learned.extend(texts) or learned, size)
    )  # type: ignore[func-returns-value]
    manifest, store = prepared(
        tmp_path / "run", recipe_of(source, "bpe", record="line", tokens={"vocab_size": 300})
    )
    assert 8_000 < sum(map(len, learned)) <= 10_000
    assert not set(learned) & set(records_in(store, manifest, "validation"))
    numbers = [int(text.split()[0]) for text in learned]
    assert numbers == sorted(numbers)
    assert min(numbers) < 200
    assert max(numbers) > 1800


def test_a_lossy_given_tokenizer_is_said(tmp_path: Path) -> None:
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

    hub = Tokenizer(models.BPE({"<unk>": 0, "r": 1, "i": 2, "v": 3, "e": 4}, [], unk_token="<unk>"))
    hub.normalizer = normalizers.Lowercase()
    hub.pre_tokenizer = pre_tokenizers.Whitespace()
    hub.save(str(tmp_path / "tokenizer.json"))
    listener = Listener()
    source = lines(tmp_path / "a.txt", sentences(100))
    recipe = recipe_of(source, record="line", tokens={"from": str(tmp_path / "tokenizer.json")})
    manifest, _ = prepared(tmp_path / "run", recipe, listener)
    assert "data.lossy-tokenizer" in listener.said
    assert manifest.vocab_size == 6  # the end token was added


def test_stages_end_at_their_totals(tmp_path: Path) -> None:
    folder = tmp_path / "notes"
    folder.mkdir()
    for number, text in enumerate(sentences(100)):
        (folder / f"{number}.txt").write_text(text)
    listener = Listener()
    prepared(tmp_path / "run", recipe_of(folder, "bpe", tokens={"vocab_size": 300}), listener)
    assert [stage.name for stage in listener.stages] == [
        "read the source",
        "learn the tokenizer",
        "merge tokens",
        "write shards",
    ]
    for stage in listener.stages:
        if stage.name == "merge tokens":
            assert stage.total is None  # nobody says how far it is
        else:
            assert stage.unit == "bytes"
            assert stage.done == stage.total, stage.name


def test_the_manifest_survives_json(tmp_path: Path) -> None:
    manifest, _ = prepared(
        tmp_path / "run", recipe_of(lines(tmp_path / "a.txt", sentences(100)), record="line")
    )
    table = json.loads(json.dumps(manifest.to_json()))
    assert Manifest.from_json(table) == manifest
    assert table["text_bytes"] == manifest.text_bytes
    assert table["splits"]["train"]["shards"][0]["sha256"]


def test_no_torch_is_loaded() -> None:
    program = "import sys, shuyuan.data; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_of_long_private_records_other_pieces_are_learned_each_time_and_no_row_sees_another(
    tmp_path: Path,
) -> None:
    rows = [{"text": text, "who": number // 2} for number, text in enumerate(sentences(40, words=30))]
    recipe = recipe_of(jsonl(tmp_path / "a.jsonl", rows), owner="who", duplicates="keep")
    manifest, store = prepared(tmp_path / "run", recipe)
    tokenizer, units = load_tokenizer(store), UnitRows(store, manifest, 32, "owner", 2)
    records, random = records_in(store, manifest, "train"), np.random.default_rng(0)
    seen = set()
    for _ in range(10):
        batch = units.rows(np.array([0]), random)
        assert batch.targets_NT.shape == (2, 32)  # a piece of each of the owner's records
        assert (batch.inputs_NT[:, 0] == tokenizer.end_id).all()
        assert (batch.inputs_NT[:, 1:] == batch.targets_NT[:, :-1]).all()
        pieces = [
            tokenizer.decode([each for each in row if each != tokenizer.end_id])
            for row in batch.targets_NT.tolist()
        ]
        assert all(any(piece in record for record in records) for piece in pieces)
        seen.update(pieces)
    assert len(seen) > 15


def test_a_number_is_one_owner_however_it_is_written(tmp_path: Path) -> None:
    rows = [
        {"text": text, "who": who} for text, who in zip(sentences(80), [1, 1.0, "1", 2] * 20, strict=True)
    ]
    source = jsonl(tmp_path / "a.jsonl", rows)
    manifest, _ = prepared(tmp_path / "run", recipe_of(source, owner="who", validation=0.5))
    assert sum(split.owners for split in manifest.splits.values()) == 2
