"""Exploit: a folder or a table of images that leads to files which nobody meant to give."""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from shuyuan.data.sources import WantedImages, open_source
from shuyuan.errors import DataError
from tests.data.pictures import encoded, image_folder

WANTED = WantedImages("image", "label", ("image", "label"))
SECRET = encoded(np.full((6, 5), 7, np.uint8))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Images of two classes beside a folder that is not given."""
    (tmp_path / "private").mkdir()
    (tmp_path / "private" / "scan.png").write_bytes(SECRET)
    return image_folder(tmp_path / "given", {"cat": 3, "dog": 3})


def contents(folder: Path) -> tuple[list[bytes], Counter[str]]:
    skipped: Counter[str] = Counter()
    return [row.values["image"] for row in open_source(str(folder), WANTED).rows(skipped)], skipped


def test_links_out_of_the_folder(folder: Path) -> None:
    (folder / "cat" / "link.png").symlink_to(folder.parent / "private" / "scan.png")
    (folder / "cat" / "chain.png").symlink_to("link.png")
    (folder / "cat" / "within.png").symlink_to("../dog/0.png")
    (folder / "cat" / "nowhere.png").symlink_to("gone.png")
    (folder / "bird").symlink_to(folder.parent / "private")
    (folder / "dog" / "deep").symlink_to(folder.parent / "private")
    (folder / "dog" / "round").symlink_to(folder)
    found, skipped = contents(folder)
    assert SECRET not in found
    assert len(found) == 7
    assert skipped == {
        "links to folders": 3,
        "links that lead out of the folder": 2,
        "files that are no images": 1,
    }


@pytest.mark.parametrize(
    "path", ["../private/scan.png", "cat/../../private/scan.png", "ABSOLUTE", "link.png", "deep/scan.png"]
)
def test_paths_out_of_the_folder(folder: Path, path: str) -> None:
    (folder / "link.png").symlink_to(folder.parent / "private" / "scan.png")
    (folder / "deep").symlink_to(folder.parent / "private")
    if path == "ABSOLUTE":
        path = str(folder.parent / "private" / "scan.png")
    table = folder / "table.jsonl"
    rows = [{"image": "cat/0.png", "label": "cat"}, {"image": path, "label": "dog"}]
    table.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(DataError) as caught:
        contents(table)
    assert caught.value.code == "data.outside"
    assert caught.value.where == f"{table}:2"


def test_what_is_no_file(folder: Path) -> None:
    os.mkfifo(folder / "cat" / "waits.png")  # whoever opens it waits for ever
    found, skipped = contents(folder)
    assert len(found) == 6
    assert skipped == {"files that are no images": 1}
    table = folder / "table.jsonl"
    names = ["cat/waits.png", "cat", ".", "", "cat/0.png\0", "a" * 5000]
    table.write_text("".join(json.dumps({"image": name, "label": "cat"}) + "\n" for name in names))
    assert len(open_source(str(table), WANTED).facts()) == 1
    found, skipped = contents(table)
    assert (found, skipped) == ([], {"image files that are not there": 6})
