"""Exploit: an .npz whose array is a pickle that runs a program when it is loaded."""

from __future__ import annotations

import io
import os
import pickle
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from shuyuan.data.sources import WantedImages, open_source
from shuyuan.errors import DataError

WANTED = WantedImages("image", "label", ("image", "label"))


class Program:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, trace: Path) -> None:
        self._trace = trace

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return os.mkdir, (str(self._trace),)


@pytest.mark.parametrize("where", ["images", "labels"])
def test_an_array_of_objects(tmp_path: Path, where: str) -> None:
    trace = tmp_path / "it ran"
    arrays = {"images": np.zeros((2, 4, 4), np.uint8), "labels": np.arange(2)}
    arrays[where] = np.array([Program(trace), Program(trace)], dtype=object)
    np.savez(tmp_path / "a.npz", **arrays)  # type: ignore[arg-type]
    with pytest.raises(DataError) as caught:
        list(open_source(str(tmp_path / "a.npz"), WANTED).rows(Counter()))
    assert caught.value.code == "data.bad-npz"
    assert "unpickled" in caught.value.what
    assert not trace.exists()


def test_a_bare_pickle(tmp_path: Path) -> None:
    trace = tmp_path / "it ran"
    content = pickle.dumps(Program(trace))
    (tmp_path / "a.npz").write_bytes(content)
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w") as archive:
        archive.writestr("images.npy", content)
        archive.writestr("labels.npy", content)
    (tmp_path / "b.npz").write_bytes(whole.getvalue())
    for name in ("a.npz", "b.npz"):
        with pytest.raises(DataError, match=r"data\.damaged"):
            open_source(str(tmp_path / name), WANTED)
    assert not trace.exists()
    pickle.loads(content)  # noqa: S301 - the exploit works where pickles are loaded
    assert trace.exists()
