"""Sources of images: IDX, folders of classes, tables and the hub, each read whole, or refused or counted by name."""

from __future__ import annotations

import csv
import gzip
import json
import struct
import sys
import types
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from shuyuan.data import ImageFacts, prepare
from shuyuan.data.sources import Row, WantedImages, open_source
from shuyuan.errors import DataError, PrivacyError
from shuyuan.progress import Progress

from .parts import Listener, prepared
from .pictures import encoded, idx_files, image_folder, images_in, pictured

WANTED = WantedImages("image", "label", ("image", "label"))


def rows_of(source: Any, wanted: WantedImages = WANTED) -> tuple[list[Row], Counter[str]]:
    """All rows of a source of images and what was left out."""
    skipped: Counter[str] = Counter()
    spec = source if isinstance(source, list) else str(source)
    return list(open_source(spec, wanted).rows(skipped)), skipped


def refusal(source: Any) -> DataError:
    with pytest.raises(DataError) as caught:
        rows_of(source)
    return caught.value


# ---- IDX -----------------------------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(
    st.tuples(st.integers(1, 9), st.integers(1, 5), st.integers(1, 5)).flatmap(
        lambda shape: arrays(np.uint8, shape)
    ),
    st.randoms(use_true_random=False),
    st.sampled_from(["", "images", "labels", "images labels"]),
)
def test_idx_comes_back(
    tmp_path_factory: pytest.TempPathFactory, images_RHW: Any, random: Any, packed: str
) -> None:
    labels = [random.randrange(256) for _ in images_RHW]
    path = idx_files(tmp_path_factory.mktemp("idx"), images_RHW, labels, packed)
    source = open_source(str(path), WANTED)
    assert source.records == len(images_RHW)
    assert source.image == ImageFacts(*images_RHW.shape[1:], 1)
    assert len(source.facts()) == 2
    rows = list(source.rows(Counter()))
    assert source.position == source.total_bytes
    assert [row.values["label"] for row in rows] == labels
    assert np.array_equal([row.values["image"] for row in rows], images_RHW)
    assert [row.where for row in rows][-1] == f"{path}:image {len(rows)}"


def test_idx_of_many_images_is_read_in_parts(tmp_path: Path) -> None:
    images_RHW = np.arange(2500 * 4, dtype=np.uint32).astype(np.uint8).reshape(2500, 2, 2)
    rows, _ = rows_of(idx_files(tmp_path, images_RHW, [7] * 2500))
    assert np.array_equal([row.values["image"] for row in rows], images_RHW)


def test_what_is_wrong_with_idx_is_named(tmp_path: Path) -> None:
    images_RHW = np.zeros((3, 2, 2), np.uint8)
    images = idx_files(tmp_path, images_RHW, [0, 1, 2])
    labels = tmp_path / "labels-idx1-ubyte"
    whole, named = images.read_bytes(), labels.read_bytes()

    def said(of_images: bytes = whole, of_labels: bytes = named) -> tuple[str, str, str]:
        images.write_bytes(of_images)
        labels.write_bytes(of_labels)
        error = refusal(images)
        return error.code, error.where or "", error.what

    for changed in (b"\0\0\x0d\x03" + whole[4:], named, b"\x89PNG" + whole[4:], b"PK\3\4" + whole[4:]):
        code, where, what = said(changed)
        assert (code, where) == ("data.bad-idx", str(images))
        assert f"{changed[:4].hex()}, not 0x00000803" in what
    assert said(of_labels=whole)[:2] == ("data.bad-idx", str(labels))
    for cut in (0, 3, 15, 20, len(whole) - 1):
        assert said(whole[:cut])[:2] == ("data.bad-idx", str(images))
        assert "ends early" in said(whole[:cut])[2]
    assert "goes on" in said(whole + b"\0")[2]
    assert said(of_labels=named[:-1])[:2] == ("data.bad-idx", str(labels))
    assert "goes on" in said(of_labels=named + b"\0")[2]
    assert said(of_labels=struct.pack(">2I", 0x801, 2) + b"\0\1")[:2] == ("data.counts-differ", str(labels))
    for sides in ((0, 2), (2**31, 2**31), (70_000, 70_000)):
        assert said(struct.pack(">4I", 0x803, 3, *sides))[0] == "data.image-size"


def test_labels_that_are_not_there_are_named(tmp_path: Path) -> None:
    images = idx_files(tmp_path, np.zeros((3, 2, 2), np.uint8), [0, 1, 2])
    (tmp_path / "labels-idx1-ubyte").unlink()
    error = refusal(images)
    assert (error.code, error.where) == ("data.no-labels", str(images))
    assert "labels-idx1-ubyte" in error.what
    unnamed = images.rename(tmp_path / "some-idx3-ubyte")
    assert refusal(unnamed).code == "data.bad-idx"
    kaggle = unnamed.rename(tmp_path / "t10k-images.idx3-ubyte")
    (tmp_path / "t10k-labels.idx1-ubyte").write_bytes(struct.pack(">2I", 0x801, 3) + b"\5\6\7")
    assert [row.values["label"] for row in rows_of(kaggle)[0]] == [5, 6, 7]


def test_a_cut_gzip_is_damaged(tmp_path: Path) -> None:
    images = idx_files(tmp_path, np.zeros((300, 9, 9), np.uint8), [1] * 300, "images")
    images.write_bytes(images.read_bytes()[:-12])
    assert refusal(images).code in ("data.damaged", "data.bad-idx")
    images.write_bytes(b"no gzip")
    assert refusal(images).code == "data.damaged"


def test_private_images_of_one_size_need_none_in_the_recipe(tmp_path: Path) -> None:
    images_RHW = np.random.default_rng(0).integers(0, 256, (80, 4, 6), np.uint8)
    source = idx_files(tmp_path, images_RHW, [number % 2 for number in range(80)])
    private = {"privacy": {"epsilon": 3.0, "unit": "record"}, "labels": ["0", "1"]}
    manifest, _ = prepared(tmp_path / "run", pictured(source, **private))
    assert manifest.image == ImageFacts(4, 6, 1)


# ---- folders -------------------------------------------------------------------------------------------------------


def test_a_folder_of_classes(tmp_path: Path) -> None:
    folder = image_folder(tmp_path / "pets", {"dog": 30, "cat": 40})
    listener = Listener()
    manifest, store = prepared(tmp_path / "run", pictured(folder, validation=0.2), listener)
    assert manifest.labels == ["cat", "dog"]
    assert manifest.image == ImageFacts(6, 5, 1)
    assert manifest.records == 70
    from PIL import Image

    expected = Counter(
        (np.asarray(Image.open(file)).tobytes(), file.parent.name) for file in folder.rglob("*.png")
    )
    found: Counter[Any] = Counter()
    for split in manifest.splits:
        images_RCHW, labels = images_in(store, manifest, split)
        found.update((image.tobytes(), label) for image, label in zip(images_RCHW, labels, strict=True))
    assert found == expected
    assert "data.resized" not in listener.said
    assert listener.stages[0].done == sum(file.stat().st_size for file in folder.rglob("*.png"))


def test_what_a_folder_holds_besides_is_counted(tmp_path: Path) -> None:
    folder = image_folder(tmp_path / "pets", {"cat": 20, "dog": 20, "dog/puppy": 1})
    (folder / "dog" / "Thumbs.db").write_bytes(b"x")
    (folder / "dog" / ".DS_Store").write_bytes(b"x")
    (folder / "read.me").write_text("x")
    (folder / "stray.PNG").write_bytes(b"x")
    (folder / "cat" / "broken.jpeg").write_bytes(b"\xff\xd8\xff broken")
    (folder / "cat" / "empty.webp").write_bytes(b"")
    rows, skipped = rows_of(folder)
    assert skipped == {
        "files that are no images": 2,
        "hidden files and folders": 1,
        "images without a folder of a class": 1,
    }
    assert [row.values["label"] for row in rows if row.values["file"].startswith("dog/puppy")] == ["dog"]
    assert {row.values["folder"] for row in rows} == {"cat", "dog", "dog/puppy"}
    manifest, _ = prepared(tmp_path / "run", pictured(folder))
    assert manifest.skipped == skipped | {"images that cannot be read": 2}
    assert manifest.records == 41


def test_mixed_sizes_are_resized_and_said_once(tmp_path: Path) -> None:
    folder = image_folder(tmp_path / "pets", {"cat": 30, "dog": 30})
    image_folder(tmp_path / "large", {"cat": 7}, (20, 30, 3))
    for file in (tmp_path / "large/cat").iterdir():
        file.rename(folder / "cat" / f"z{file.name}")
    listener = Listener()
    manifest, _ = prepared(tmp_path / "run", pictured(folder), listener)
    assert manifest.image == ImageFacts(6, 5, 1)
    assert manifest.changed == 7
    assert listener.said["data.resized"].startswith("7 images had another size than 6x5")
    manifest, _ = prepared(tmp_path / "other", pictured(folder, image_size=8, channels=3))
    assert manifest.image == ImageFacts(8, 8, 3)


def test_owners_are_folders_where_the_recipe_says_so(tmp_path: Path) -> None:
    counts = {f"{label}/patient {number}": 4 for number in range(12) for label in ("ill", "well")}
    folder = image_folder(tmp_path / "scans", counts)
    manifest, _ = prepared(tmp_path / "run", pictured(folder, owner="folder", validation=0.3))
    assert manifest.records == 96
    assert sum(split.owners for split in manifest.splits.values()) == 24


def test_folders_that_are_none_of_classes(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert refusal(tmp_path / "empty").code == "data.no-classes"
    flat = image_folder(tmp_path / "flat", {"cat": 2})
    assert refusal(flat / "cat").code == "data.no-classes"
    error = refusal(image_folder(tmp_path / "splits", {"train/cat": 1, "test/cat": 1}))
    assert error.code == "data.split-folders"
    assert refusal(flat / "cat" / "0.png").code == "data.no-images"
    assert refusal(tmp_path / "nothing").code == "data.missing"
    (tmp_path / "a.txt").write_text("text")
    assert refusal(tmp_path / "a.txt").code == "data.no-images"


def test_what_happens_meanwhile_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = image_folder(tmp_path / "pets", {"cat": 30, "dog": 30})
    source = open_source(str(folder), WANTED)
    (folder / "cat" / "0.png").unlink()
    assert source.facts()[0].size == 0
    skipped: Counter[str] = Counter()
    assert len(list(source.rows(skipped))) == 59
    assert skipped == {"image files that are not there": 1}

    def closed(path: Path) -> Any:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "iterdir", closed)
    assert refusal(folder).code == "data.unreadable"


def test_one_class_is_nothing_to_tell_apart(tmp_path: Path) -> None:
    folder = image_folder(tmp_path / "pets", {"cat": 40})
    with pytest.raises(DataError, match=r"data\.one-label"):
        prepared(tmp_path / "run", pictured(folder))


def test_images_that_are_all_broken_are_nothing(tmp_path: Path) -> None:
    for label in ("cat", "dog"):
        (tmp_path / "pets" / label).mkdir(parents=True)
        (tmp_path / "pets" / label / "a.png").write_bytes(b"broken")
    with pytest.raises(DataError, match=r"2 images that cannot be read") as caught:
        prepared(tmp_path / "run", pictured(tmp_path / "pets"))
    assert caught.value.code == "data.empty"
    with pytest.raises(DataError, match=r"data\.empty"):
        prepared(tmp_path / "run", pictured(tmp_path / "pets", image_size=8, channels=1))


def test_exact_copies_go_and_other_labels_stay(tmp_path: Path) -> None:
    folder = image_folder(tmp_path / "pets", {"cat": 30, "dog": 30})
    copied = (folder / "cat" / "0.png").read_bytes()
    (folder / "cat" / "copy.png").write_bytes(copied)
    (folder / "dog" / "copy.png").write_bytes(copied)
    manifest, _ = prepared(tmp_path / "run", pictured(folder))
    assert manifest.duplicates == {"exact": 1}
    assert manifest.records == 61
    manifest, _ = prepared(tmp_path / "kept", pictured(folder, duplicates="keep"))
    assert manifest.records == 62


def test_a_changed_image_is_noticed(tmp_path: Path) -> None:
    folder = image_folder(tmp_path / "pets", {"cat": 30, "dog": 30})
    recipe = pictured(folder)
    manifest, store = prepared(tmp_path / "run", recipe)
    file = folder / "cat" / "0.png"
    content = file.read_bytes()
    file.write_bytes(content)  # another date, the same pixels
    assert prepare(recipe, store, Progress()).fingerprint == manifest.fingerprint
    file.write_bytes((folder / "cat" / "1.png").read_bytes())
    with pytest.raises(DataError, match=r"data\.changed") as caught:
        prepare(recipe, store, Progress())
    assert caught.value.where == str(file)


def test_private_images_need_their_shape_in_the_recipe(tmp_path: Path) -> None:
    folder = image_folder(tmp_path / "pets", {"cat": 30, "dog": 30})
    private = {"privacy": {"epsilon": 3.0, "unit": "record"}, "labels": ["cat", "dog"]}
    for some in ({}, {"image_size": 8}, {"channels": 1}):
        with pytest.raises(PrivacyError, match=r"privacy\.image-shape"):
            prepared(tmp_path / "run", pictured(folder, **private, **some))
    manifest, _ = prepared(tmp_path / "run", pictured(folder, **private, image_size=8, channels=1))
    assert manifest.image == ImageFacts(8, 8, 1)


def test_private_copies_of_others_stay(tmp_path: Path) -> None:
    counts = {f"{label}/{number}": 2 for number in range(20) for label in ("ill", "well")}
    folder = image_folder(tmp_path / "scans", counts)
    copied = (folder / "ill/0/0.png").read_bytes()
    (folder / "ill/0/copy.png").write_bytes(copied)
    (folder / "ill/1/copy.png").write_bytes(copied)
    private = {"privacy": {"epsilon": 3.0}, "labels": ["ill", "well"], "image_size": 6, "channels": 1}
    manifest, _ = prepared(tmp_path / "run", pictured(folder, owner="folder", **private))
    assert manifest.duplicates == {"exact": 1}


# ---- tables --------------------------------------------------------------------------------------------------------


def drawn(count: int) -> list[dict[str, Any]]:
    """Encoded images with a label and an owner each."""
    random = np.random.default_rng(0)
    return [
        {
            "image": encoded(random.integers(0, 256, (6, 5, 3), np.uint8)),
            "label": ("cat", "dog")[number % 2],
            "who": number // 4,
        }
        for number in range(count)
    ]


def test_parquet_holds_images(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    write_table = pytest.importorskip("pyarrow.parquet").write_table
    rows = drawn(60)
    for number, kind in enumerate(("bytes", "struct")):
        images = [row["image"] if kind == "bytes" else {"bytes": row["image"], "path": None} for row in rows]
        table = pyarrow.table(
            {
                "picture": [*images, None],
                "kind": [*(row["label"] for row in rows), "cat"],
                "who": [*(row["who"] for row in rows), 1],
                "beside": ["x"] * 61,
            }
        )
        source = tmp_path / f"{kind}.parquet"
        write_table(table, source)
        recipe = pictured(source, image="picture", label="kind", owner="who")
        manifest, store = prepared(tmp_path / str(number), recipe)
        assert manifest.image == ImageFacts(6, 5, 3)
        assert manifest.skipped == {"records without an image": 1}
        assert (manifest.records, sum(split.owners for split in manifest.splits.values())) == (60, 15)
        assert images_in(store, manifest, "train")[0].shape[1:] == (3, 6, 5)
        with pytest.raises(DataError, match=r"data\.no-column") as caught:
            prepared(tmp_path / "run", pictured(source))
        assert "picture" in caught.value.mend


def test_parquet_as_hugging_face_writes_it(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    rows = drawn(40)
    features = datasets.Features(
        {"image": datasets.Image(), "label": datasets.ClassLabel(names=["cat", "dog"])}
    )
    encoded_rows = [{"image": {"bytes": row["image"], "path": None}, "label": row["label"]} for row in rows]
    datasets.Dataset.from_list(encoded_rows, features=features).to_parquet(str(tmp_path / "train.parquet"))
    found, _ = rows_of(tmp_path / "train.parquet")
    assert [row.values["image"] for row in found] == [row["image"] for row in rows]
    assert {row.values["label"] for row in found} == {0, 1}


@pytest.mark.parametrize("suffix", [".jsonl", ".json", ".csv", ".tsv"])
def test_tables_of_paths(tmp_path: Path, suffix: str) -> None:
    folder = tmp_path / "data"
    (folder / "images").mkdir(parents=True)
    rows = drawn(40)
    for number, row in enumerate(rows):
        (folder / "images" / f"{number}.png").write_bytes(row["image"])
        row["image"] = f"images/{number}.png"
    rows.append({"image": "images/gone.png", "label": "cat", "who": 1})
    source = folder / f"table{suffix}"
    if suffix == ".jsonl":
        source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    elif suffix == ".json":
        source.write_text(json.dumps(rows))
    else:
        with source.open("w", newline="") as file:
            writer = csv.DictWriter(file, rows[0], delimiter="," if suffix == ".csv" else "\t")
            writer.writeheader()
            writer.writerows(rows)
    recipe = pictured(source, validation=0.3)
    manifest, store = prepared(tmp_path / "run", recipe)
    assert manifest.records == 40
    assert manifest.skipped == {"image files that are not there": 1}
    assert len(manifest.source) == 41
    image = folder / "images/0.png"
    image.write_bytes((folder / "images/1.png").read_bytes())
    with pytest.raises(DataError, match=r"data\.changed") as caught:
        prepare(recipe, store, Progress())
    assert caught.value.where == str(image)


def test_several_files_are_one_source(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    for number in range(2):
        idx_files(tmp_path / str(number), random.integers(0, 256, (40, 3, 3), np.uint8), [0, 1] * 20)
    source = open_source(str(tmp_path / "*" / "images-*"), WANTED)
    assert (source.records, source.image) == (80, ImageFacts(3, 3, 1))
    manifest, _ = prepared(
        tmp_path / "run", pictured([str(tmp_path / "0/images-idx3-ubyte"), str(tmp_path / "1/images*")])
    )
    assert manifest.records == 80
    held_out = pictured(tmp_path / "0/images-idx3-ubyte", validation=str(tmp_path / "1/images-idx3-ubyte"))
    manifest, _ = prepared(tmp_path / "apart", held_out)
    assert [split.records for split in manifest.splits.values()] == [40, 40]


# ---- the hub -------------------------------------------------------------------------------------------------------


def test_the_hub_gives_images_undecoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("datasets")
    rows = drawn(50)
    held = datasets.Dataset.from_list(
        [{"image": {"bytes": row["image"], "path": "a.png"}, "label": row["label"], "who": 1} for row in rows]
    ).cast_column("image", datasets.Image())
    fake = types.ModuleType("datasets")
    fake.Image = datasets.Image  # type: ignore[attr-defined]
    fake.load_dataset = lambda name, *, split, streaming: held.to_iterable_dataset()  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "datasets", fake)
    found, _ = rows_of("hf:org/pets")
    assert [dict(row.values) for row in found] == [
        {"image": row["image"], "label": row["label"]} for row in rows
    ]
    manifest, _ = prepared(tmp_path / "run", pictured("hf:org/pets"))
    assert manifest.image == ImageFacts(6, 5, 3)
    assert manifest.records == 50


# ---- public data ---------------------------------------------------------------------------------------------------


def test_mnist(tmp_path: Path, shared_data: Path) -> None:
    train, test = (
        shared_data / "vision" / f"mnist-{part}-images-idx3-ubyte.gz" for part in ("train", "t10k")
    )
    manifest, store = prepared(tmp_path, pictured(train, test=str(test)))
    assert manifest.labels == list("0123456789")
    assert manifest.records + manifest.duplicates["exact"] == 70_000
    with gzip.open(test) as file:
        expected = np.frombuffer(file.read(), np.uint8, offset=16).reshape(-1, 1, 28, 28)
    found, labels = images_in(store, manifest, "test")
    assert np.array_equal(found, expected)
    assert Counter(labels)["1"] == 1135
