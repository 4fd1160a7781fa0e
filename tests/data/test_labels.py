"""Labels from the source to the shards: none lost, none moved to another text, none learned where that is a leak."""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shuyuan import vault
from shuyuan.data import Manifest, Rows, load_manifest, load_tokenizer, prepare, survey, writers, writing
from shuyuan.data.labels import Labels, in_order
from shuyuan.data.prepare import _settings
from shuyuan.errors import DataError, RecipeError
from shuyuan.privacy.ledger import ALLOWED
from shuyuan.progress import Progress
from shuyuan.recipe import Privacy, from_table
from shuyuan.runs import Run
from shuyuan.vault import OpenStore
from tests.data.parts import Listener, jsonl, prepared, refused, sentences
from tests.data.reviews import labelled, pairs_in, reviews

SPLITS = ("train", "validation", "test")


def told(rows: list[dict[str, Any]]) -> list[tuple[str, str]]:
    return sorted((row["text"], row["label"]) for row in rows)


def everything(store: vault.Store, manifest: Manifest) -> list[tuple[str, str]]:
    return sorted(pair for split in manifest.splits for pair in pairs_in(store, manifest, split))


# ---- what comes out ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("task", ["sentiment", "classification"])
def test_every_record_comes_out_with_its_label(tmp_path: Path, language: str, task: str) -> None:
    rows = reviews(language, 200)
    source = jsonl(tmp_path / "reviews.jsonl", rows)
    manifest, store = prepared(tmp_path / "run", labelled(source, task, test=0.2))
    assert everything(store, manifest) == told(rows)
    assert manifest.labels == ["negative", "positive"]
    assert load_manifest(store) == manifest
    for split in SPLITS:
        assert manifest.splits[split].records == len(pairs_in(store, manifest, split)) > 20


@settings(max_examples=15, deadline=None)
@given(
    st.lists(st.sampled_from(["好评", "差评", "a@example.com", "0", " x "]), min_size=60, max_size=90),
    st.integers(0, 1000),
    st.integers(200, 40_000),
)
def test_labels_survive_splits_masking_shards_and_shuffles(
    tmp_path_factory: pytest.TempPathFactory, labels: list[str], seed: int, shard_bytes: int
) -> None:
    folder = tmp_path_factory.mktemp("run")
    names = ["no record has it", "好评", "差评", "a@example.com", "0", " x "]
    rows = [
        {"text": f"{number} 写信 a{number}@example.com", "label": label}
        for number, label in enumerate(labels)
    ]
    rows += [{"text": f"{label} both", "label": label} for label in names[1:] for _ in range(2)]
    recipe = labelled(jsonl(folder / "a.jsonl", rows), context=64, labels=names, mask=["email"])
    recipe = recipe.replace(seed=seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(writers, "SHARD_BYTES", shard_bytes)
        patch.setattr(writing, "_BATCH_SIZE", 200)
        manifest, store = prepared(folder / "run", recipe)
    expected = [(f"{number} 写信 [email]", label) for number, label in enumerate(labels)]
    expected += [(f"{label} both".replace("a@example.com", "[email]"), label) for label in names[1:]]
    assert everything(store, manifest) == sorted(expected)
    assert manifest.labels == names
    tokenizer = load_tokenizer(store)
    read = Rows(store, manifest, "train", 64)
    inputs, targets = read.batch(seed, read.count, seed)
    shuffled = [
        (tokenizer.decode(row[row >= 0].tolist()), names[target])
        for row, target in zip(inputs, targets[:, 0].tolist(), strict=True)
    ]
    assert sorted(shuffled) == sorted(pairs_in(store, manifest, "train"))


def test_a_sealed_run_holds_the_same_labels_and_shows_none(tmp_path: Path) -> None:
    rows = [row | {"label": f"Zyzzo{row['label']}"} for row in reviews("zh", 120)]
    recipe = labelled(jsonl(tmp_path / "a.jsonl", rows))
    manifest, store = prepared(tmp_path / "open", recipe)
    key = f"file:{vault.write_key_file(tmp_path / 'keys' / 'test.key')}"
    with vault.open_store(Run(tmp_path / "sealed"), key, create=True) as sealed:
        other = prepare(recipe, sealed, Progress())
        for split in manifest.splits:
            assert pairs_in(sealed, other, split) == pairs_in(store, manifest, split)
    for file in (tmp_path / "sealed").rglob("*"):
        assert not file.is_file() or b"Zyzzo" not in file.read_bytes()


def test_the_column_may_have_any_name_and_hold_numbers(tmp_path: Path) -> None:
    for values in ([10, 9], [1.0, 0.0], [True, False]):
        rows = [{"review": text, "stars": values[number % 2]} for number, text in enumerate(sentences(60))]
        source = jsonl(tmp_path / "a.jsonl", rows)
        manifest, store = prepared(tmp_path / str(values), labelled(source, text="review", label="stars"))
        assert manifest.labels in (["9", "10"], ["0", "1"], ["false", "true"])
        assert Counter(label for _, label in everything(store, manifest)) == dict.fromkeys(
            manifest.labels, 30
        )


def test_the_order_of_the_recipe_is_the_order_of_the_classes(tmp_path: Path) -> None:
    source = jsonl(tmp_path / "a.jsonl", reviews("en", 100))
    one, store = prepared(tmp_path / "one", labelled(source, labels=["positive", "negative"]))
    two, other = prepared(tmp_path / "two", labelled(source, labels=["negative", "positive"]))
    assert (one.labels, two.labels) == (["positive", "negative"], ["negative", "positive"])
    assert everything(store, one) == everything(other, two)
    assert one.splits["train"].shards[0].sha256 != two.splits["train"].shards[0].sha256


@given(st.lists(st.integers(-1000, 1000), unique=True))
def test_numbers_are_sorted_as_numbers(numbers: list[int]) -> None:
    assert in_order(map(str, numbers)) == [str(number) for number in sorted(numbers)]
    assert in_order([*map(str, numbers), "x"]) == sorted([*map(str, numbers), "x"])


# ---- duplicates, owners --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("duplicates", ["near", "exact"])
@pytest.mark.parametrize("privacy", [None, {"epsilon": 3.0, "unit": "record"}])
def test_one_text_with_two_labels_is_no_duplicate(
    tmp_path: Path, duplicates: str, privacy: dict[str, Any] | None
) -> None:
    texts = sentences(40, words=30)
    rows = [{"text": text, "label": label} for label in "abca" for text in texts]
    tables = {"privacy": privacy} if privacy else {}
    recipe = labelled(jsonl(tmp_path / "a.jsonl", rows), duplicates=duplicates, labels=[*"abc"], **tables)
    manifest, store = prepared(tmp_path / "run", recipe)
    assert everything(store, manifest) == sorted((text, label) for label in "abc" for text in texts)
    assert manifest.duplicates["exact"] == 40
    assert sum(split.owners for split in manifest.splits.values()) == 120  # each record is its own owner


def test_nearly_alike_records_go_where_their_label_is_the_same(tmp_path: Path) -> None:
    texts = sentences(60, words=40)
    rows = [{"text": text, "label": "a"} for text in texts]
    rows += [{"text": f"{text} indeed", "label": label} for text in texts for label in "ab"]
    manifest, store = prepared(
        tmp_path / "run", labelled(jsonl(tmp_path / "a.jsonl", rows), duplicates="near")
    )
    expected = [(text, "a") for text in texts] + [(f"{text} indeed", "b") for text in texts]
    assert everything(store, manifest) == sorted(expected)
    assert manifest.duplicates == {"exact": 0, "near": 60}


def test_another_label_is_another_source(tmp_path: Path) -> None:
    rows = reviews("en", 100)
    source = jsonl(tmp_path / "a.jsonl", rows)
    recipe = labelled(source)
    manifest, store = prepared(tmp_path / "run", recipe)
    flipped = {"negative": "positive", "positive": "negative"}
    jsonl(source, [*rows[:-1], rows[-1] | {"label": flipped[rows[-1]["label"]]}])
    with pytest.raises(DataError, match=r"data\.changed"):
        prepare(recipe, store, Progress())
    assert load_manifest(store) == manifest


# ---- what is left out and said -------------------------------------------------------------------------------------


def test_records_without_a_label_are_counted(tmp_path: Path) -> None:
    rows = [
        *reviews("en", 80),
        *({"text": text, "label": None} for text in sentences(3)),
        {"text": "a", "label": " "},
    ]
    listener = Listener()
    manifest, store = prepared(tmp_path / "run", labelled(jsonl(tmp_path / "a.jsonl", rows)), listener)
    assert manifest.skipped == {"records without a label": 4}
    assert "4 records without a label" in listener.said["data.skipped"]
    assert everything(store, manifest) == told(rows[:80])


def test_what_is_cut_is_said_once(tmp_path: Path) -> None:
    source = jsonl(tmp_path / "a.jsonl", reviews("zh", 100))
    for context, said in ((16, True), (200, False)):
        listener = Listener()
        manifest, store = prepared(tmp_path / str(context), labelled(source, context=context), listener)
        assert ("data.cut" in listener.said) == said
        cut = sum(Rows(store, manifest, split, context).cut for split in manifest.splits)
        assert not said or listener.said["data.cut"].startswith(f"{cut} of 100 records")


def test_a_label_that_no_record_shows_is_said(tmp_path: Path) -> None:
    source = jsonl(tmp_path / "a.jsonl", reviews("en", 80))
    listener = Listener()
    manifest, _ = prepared(
        tmp_path / "run", labelled(source, labels=["negative", "neutral", "positive"]), listener
    )
    assert manifest.labels == ["negative", "neutral", "positive"]
    assert "neutral" in listener.said["data.unseen-labels"]


# ---- what is refused -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("labels", "mark"), [(["a", "b", "a|b"], "|"), (["a", "b", "c, d"], ""), (["a", "b", "a, b"], ",")]
)
def test_labels_that_look_like_several_are_said(tmp_path: Path, labels: list[str], mark: str) -> None:
    rows = [row | {"label": labels[place % 3]} for place, row in enumerate(reviews("en", 90))]
    progress = Progress()
    recipe = labelled(jsonl(tmp_path / "reviews.jsonl", rows))
    prepare(recipe, OpenStore(tmp_path / "run"), progress)
    assert (f'label_separator = "{mark}"' in progress.said.get("data.joined-labels", "")) == bool(mark)


@pytest.mark.parametrize(
    ("label", "near"), [("postive", "positive"), ("POSITIVE", "positive"), ("neg", "negative"), ("zzz", None)]
)
def test_a_label_that_the_recipe_does_not_name_is_refused(
    tmp_path: Path, label: str, near: str | None
) -> None:
    rows = reviews("en", 50)
    rows[6]["label"] = label
    source = jsonl(tmp_path / "a.jsonl", rows)
    error = refused(tmp_path / "run", labelled(source, labels=["negative", "positive"]))
    assert (error.code, error.where) == ("data.unknown-label", f"{source}:7")
    assert f'"{label}"' not in error.what  # it is a record's own, and a wrong column may hold whole records
    assert "negative, positive" in error.what
    assert (f'Did you mean "{near}"?' in error.mend) if near else ("Did you" not in error.mend)


def test_a_held_out_label_that_training_never_saw_is_refused(tmp_path: Path) -> None:
    source = jsonl(tmp_path / "a.jsonl", reviews("en", 50))
    held_out = jsonl(tmp_path / "v.jsonl", [{"text": "so so", "label": "neutral"}, *reviews("zh", 10)])
    error = refused(tmp_path / "run", labelled(source, validation=str(held_out)))
    assert (error.code, error.where) == ("data.unknown-label", f"{held_out}:1")
    assert "data.labels" in error.mend
    assert "neutral" not in str(error) and "positive" not in str(error)
    names = ["negative", "neutral", "positive"]
    manifest, _ = prepared(tmp_path / "named", labelled(source, validation=str(held_out), labels=names))
    assert manifest.labels == names


def test_a_long_label_is_not_shown_whole() -> None:
    labels = Labels([f"label {number}" for number in range(100)])
    with pytest.raises(DataError) as caught:
        labels.add("a secret of the record " * 5, "a.csv:2")
    assert len(caught.value.what) < 300
    assert "88 more" in caught.value.what


def test_one_label_is_none(tmp_path: Path) -> None:
    rows = [row | {"label": "positive"} for row in reviews("en", 50)]
    source = jsonl(tmp_path / "a.jsonl", rows)
    assert refused(tmp_path / "run", labelled(source)).code == "data.one-label"
    assert (
        refused(tmp_path / "run", labelled(source, labels=["negative", "positive"])).code == "data.one-label"
    )


def test_a_split_needs_a_record(tmp_path: Path) -> None:
    rows = reviews("en", 3)
    source = jsonl(tmp_path / "a.jsonl", rows)
    error = refused(tmp_path / "run", labelled(source, context=8, validation=1e-9))
    assert error.code == "data.too-little"
    assert "no record" in error.what
    held_out = jsonl(tmp_path / "v.jsonl", [{"text": "好", "label": "positive"}])
    recipe = labelled(jsonl(source, reviews("en", 50)), context=512, validation=str(held_out))
    manifest, _ = prepared(tmp_path / "run", recipe)  # less than one window of context
    assert manifest.splits["validation"].records == 1


def test_more_labels_than_a_class_index_holds_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from shuyuan.data import labels as room

    monkeypatch.setattr(room, "MOST_LABELS", 3)
    noted = Labels(None)
    for label in "abcab":
        noted.add(label, "a.csv:2")
    with pytest.raises(DataError, match=r"data\.too-many-labels"):
        noted.add("d", "a.csv:7")


@pytest.mark.parametrize("record", [None, "line"])
def test_a_text_without_columns_is_refused(tmp_path: Path, record: str | None) -> None:
    source = tmp_path / "a.txt"
    source.write_text("\n".join(sentences(50)))
    error = refused(tmp_path / "run", labelled(source, record=record))
    assert error.code == "data.no-column"
    assert "table" in error.mend


# ---- as it was -----------------------------------------------------------------------------------------------------


def test_runs_from_before_labels_are_still_what_they_were(tmp_path: Path) -> None:
    recipe = from_table({"data": {"source": "/data/notes.txt"}})
    assert _settings(recipe) == "b934cd4815deda6409195889e46d54dbaf548fa8dc915f43f5651a0cb1d056d7"
    manifest, _ = prepared(tmp_path / "run", labelled(jsonl(tmp_path / "a.jsonl", reviews("en", 60))))
    table = manifest.to_json()
    del table["labels"], table["tokenizer"]["start_id"]
    assert Manifest.from_json(table).labels == []


def test_reading_twice_gives_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = labelled(jsonl(tmp_path / "a.jsonl", reviews("zh", 150)))
    manifest, _ = prepared(tmp_path / "one", recipe)
    monkeypatch.setattr(survey, "HELD_BYTES", 0)
    other, _ = prepared(tmp_path / "two", recipe)
    assert other.splits == manifest.splits


# ---- the recipe ----------------------------------------------------------------------------------------------------


def refusal(**tables: Any) -> str:
    table = {"task": "sentiment", "data": {"source": "a.csv"}}
    for key, value in tables.items():
        table[key] = table[key] | value if isinstance(value, dict) and key in table else value
    with pytest.raises(RecipeError) as caught:
        from_table(table)
    return str(caught.value)


def test_what_a_recipe_with_labels_may_not_say() -> None:
    assert "`data.label` is set" in refusal(task="generation", data={"label": "label"})
    assert "`data.labels` is set" in refusal(task="generation", data={"labels": ["a", "b"]})
    assert "`data.label` names the column of the text" in refusal(data={"label": "text"})
    assert "`audit.canaries`" in refusal(audit={"canaries": 10})
    for labels in (["a"], ["a", "a"], ["a", " "], []):
        assert "`data.labels` must be" in refusal(data={"labels": labels})
    private = {"epsilon": 3.0, "unit": "record"}
    assert 'privacy.allow = ["labels"]' in refusal(privacy=private)


def test_the_resolved_recipe_says_the_column() -> None:
    recipe = from_table({"task": "sentiment", "data": {"source": "a.csv"}})
    assert recipe.data.label == "label"
    assert 'label = "label"' in recipe.as_toml()
    assert "\nlabel" not in from_table({"data": {"source": "a.csv"}}).as_toml()
    private = {"epsilon": 3.0, "unit": "record", "allow": ["labels"]}
    from_table({"task": "sentiment", "data": {"source": "a.csv"}, "privacy": private})
    named = {"source": "a.csv", "labels": ["a", "b"]}
    from_table({"task": "sentiment", "data": named, "privacy": {"epsilon": 3.0, "unit": "record"}})


def test_each_leak_that_a_recipe_may_accept_has_a_meaning() -> None:
    annotation = Privacy.model_fields["allow"].annotation
    assert set(get_args(get_args(annotation)[0])) == set(ALLOWED)


# ---- public data ---------------------------------------------------------------------------------------------------


def test_sst2(tmp_path: Path, shared_data: Path) -> None:
    source, test = (shared_data / "sentiment" / f"sst2_{split}.tsv" for split in ("train", "test"))
    recipe = labelled(source, "sentiment", context=128, text="sentence", test=str(test), validation=0.1)
    manifest, store = prepared(tmp_path / "run", recipe)
    assert manifest.labels == ["0", "1"]
    assert manifest.records + manifest.duplicates["exact"] == 60_614 + 872
    with test.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    assert pairs_in(store, manifest, "test") == [(row["sentence"].strip("\n"), row["label"]) for row in rows]
    assert Counter(label for _, label in pairs_in(store, manifest, "test")) == {"1": 444, "0": 428}


def test_chnsenticorp(tmp_path: Path, shared_data: Path) -> None:
    source = shared_data / "sentiment" / "ChnSentiCorp_htl_all.csv"
    recipe = labelled(source, context=128, text="review", labels=["0", "1"])
    manifest, store = prepared(tmp_path / "run", recipe)
    assert manifest.skipped == {"empty records": 1}
    counts = Counter(label for _, label in everything(store, manifest))
    assert sum(counts.values()) + manifest.duplicates["exact"] == 7_765
    assert abs(counts["1"] - 5_322) < 10
    assert Rows(store, manifest, "train", 128).counts == [
        sum(label == name for _, label in pairs_in(store, manifest, "train")) for name in manifest.labels
    ]
