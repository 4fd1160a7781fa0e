"""Exploit: weights whose header lies, or that are pickles, through every door by which weights come in; the folder's own sums are
made to fit, as whoever can write there can."""

from __future__ import annotations

import copy
import hashlib
import json
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
import safetensors.numpy
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shuyuan import pipeline
from shuyuan.errors import ShuyuanError
from shuyuan.hardware import choose_precision, detect
from shuyuan.models import hub, load_network
from shuyuan.models.networks import load_writer
from shuyuan.progress import Progress
from shuyuan.retrieval import Index
from shuyuan.train.backend import Arrays
from shuyuan.train.checkpoints import Checkpoints
from shuyuan.train.memory import forget_peak, peak_memory
from shuyuan.train.stored import Stored
from shuyuan.vault import OpenStore
from tests.faults import exported, live, tiny
from tests.retrieval.parts import Columns, build_index, write_documents
from tests.train.test_shares import divided

from .hostile import STRANGE, corpus, packed, parsed, pickles

ROOM_BYTES = 256 << 20
SECONDS = 5.0  # of this process, on a machine that does other things


@dataclass
class Door:
    """A way by which weights come in.

    Args:
        file: of weights.
        enter: loads it.
        seal: makes the folder's own sums fit a changed file.
    """

    file: Path
    enter: Callable[[], object]
    seal: Callable[[Path], None] = lambda _: None


def _fit_checkpoint(file: Path) -> None:
    state = file.with_name("state.json")
    table = json.loads(state.read_text())
    table["files"][file.name] = hashlib.sha256(file.read_bytes()).hexdigest()
    state.write_text(json.dumps(table))


def _fit_index(file: Path) -> None:
    manifest = file.with_name("manifest.json")
    table = json.loads(manifest.read_text())
    content = file.read_bytes()
    table["files"][file.name] = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    manifest.write_text(json.dumps(table))


@pytest.fixture(scope="module")
def doors(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Door]:
    """One run in the clear with a checkpoint on the way, a variant and an export; a folder of another architecture; an index."""
    folder = tmp_path_factory.mktemp("doors")
    run = folder / "run"
    recipe = tiny(folder, "open")
    live(recipe, run)
    store = OpenStore(run)
    newest = run / "checkpoints/step-00000006"
    told = json.loads((newest / "state.json").read_text())
    checkpoints = Checkpoints(store, told["identity"], told["circumstances"], keep=2)
    expected = safetensors.numpy.load_file(newest / "arrays-00000.safetensors")
    in_shares = Checkpoints(store, {}, {}, keep=2)
    in_shares.save(7, {"step": 7, "safe_step": 0}, divided(expected, 3))
    other = folder / "other"
    shutil.copytree(exported(run), other)
    table = {
        "model_type": "gpt2",
        "vocab_size": 260,
        "n_embd": 32,
        "n_layer": 2,
        "n_head": 4,
        "n_positions": 64,
    }
    (other / "config.json").write_text(json.dumps(table))
    index = folder / "index"
    build_index([str(write_documents(folder / "documents"))], index, columns=Columns())
    precision = choose_precision("fp32", detect())
    weights = "model.safetensors"
    return {
        "resume": Door(
            newest / "arrays-00000.safetensors", lambda: checkpoints.load(6, expected), _fit_checkpoint
        ),
        "resume from shares": Door(
            run / "checkpoints/step-00000007/share-00001.safetensors",
            lambda: in_shares.load(7, expected),
            _fit_checkpoint,
        ),
        "resume in shares": Door(
            run / "checkpoints/step-00000007/share-00001.safetensors",
            lambda: _by_one_rank(in_shares, expected),
            _fit_checkpoint,
        ),
        "model.from": Door(exported(run) / weights, lambda: hub.load_folder(exported(run))),
        "run": Door(run / "model" / weights, lambda: load_network(store)),
        "serve": Door(run / "model" / weights, lambda: load_writer(store, "model", precision, Progress())),
        "variant": Door(
            next((run / "compressed/int8").glob("*.safetensors")),
            lambda: load_network(store, "compressed/int8"),
        ),
        "export": Door(run / "model" / weights, lambda: _export(run, folder / "out", "original")),
        "export of a variant": Door(
            next((run / "compressed/int8").glob("*.safetensors")),
            lambda: _export(run, folder / "out", "int8"),
        ),
        "transformers": Door(other / weights, lambda: hub.read_config(OpenStore(other), "")),
        "index": Door(index / "index/arrays.safetensors", lambda: Index(index), _fit_index),
    }


def _export(run: Path, to: Path, variant: str) -> object:
    shutil.rmtree(to, ignore_errors=True)
    with pipeline.look(run) as job:
        return pipeline.export(job, to, variant=variant)


def _by_one_rank(checkpoints: Checkpoints, expected: Arrays) -> None:
    """As rank 1 of four reads shares of three."""
    stored = checkpoints.load(7, divided(expected, 4))[1]
    assert isinstance(stored, Stored)
    Stored(list(stored.files)[:2], 3, expected, stored.where).open()


DOORS = (
    "resume",
    "resume from shares",
    "resume in shares",
    "model.from",
    "run",
    "serve",
    "variant",
    "export",
    "export of a variant",
    "transformers",
    "index",
)
HARMLESS = {  # compared with the configuration when the model is built
    ("transformers", lie)
    for lie in ("another name", "a header without tensors", "a hundred thousand tensors of nothing")
}


@contextmanager
def little_of_everything() -> Iterator[None]:
    """Lets the work inside use little memory and time."""
    forget_peak()
    before, begun = peak_memory(), time.process_time()
    yield
    assert time.process_time() - begun < SECONDS
    assert peak_memory() - before < ROOM_BYTES


@contextmanager
def changed(door: Door, content: bytes) -> Iterator[None]:
    """The file with other content, while this lasts."""
    sound = door.file.read_bytes()
    door.file.write_bytes(content)
    door.seal(door.file)
    try:
        yield
    finally:
        door.file.write_bytes(sound)
        door.seal(door.file)


@pytest.mark.parametrize("name", DOORS)
def test_every_lie_is_refused_at_every_door(doors: dict[str, Door], name: str, tmp_path: Path) -> None:
    door, trace = doors[name], tmp_path / "it ran"
    door.enter()
    for lie, content in (corpus(door.file.read_bytes()) | pickles(trace)).items():
        if (name, lie) in HARMLESS:
            continue
        with changed(door, content), little_of_everything():
            try:
                door.enter()
            except ShuyuanError as error:
                assert error.mend and error.where, lie
            else:
                pytest.fail(f"{lie} is taken for weights")
    assert not trace.exists()
    door.enter()


@given(st.data())
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_stands_in_a_header_is_refused_or_harmless(
    doors: dict[str, Door], data: st.DataObject
) -> None:
    """Anything in the place of anything: a clear refusal or weights, and no other error."""
    door = doors[data.draw(st.sampled_from(DOORS))]
    header, body = parsed(door.file.read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        name = data.draw(st.sampled_from(sorted(header)))
        strange = copy.deepcopy(data.draw(st.sampled_from(STRANGE)))
        part = data.draw(
            st.sampled_from(["all", "dtype", "shape", "data_offsets", "name", "gone", "one of them"])
        )
        entry = header[name]
        if part == "all" or not isinstance(entry, dict):
            header[name] = strange
        elif part == "gone":
            del header[name]
        elif part == "name":
            header[str(strange)] = header.pop(name)
        elif part == "one of them" and isinstance(entry.get("data_offsets"), list):
            entry["data_offsets"][:1] = [strange]
        else:
            entry[part] = strange
        if not header:
            break
    content = packed(json.dumps(header).encode("utf-8", "surrogatepass"), body)
    with changed(door, content), little_of_everything(), suppress(ShuyuanError):
        door.enter()


@pytest.mark.parametrize("name", DOORS)
def test_pickles_that_lie_beside_are_left_alone(doors: dict[str, Door], name: str, tmp_path: Path) -> None:
    trace, folder = tmp_path / "it ran", doors[name].file.parent
    content = pickles(trace)["a zip of torch.save"]
    beside = ("pytorch_model.bin", "optimizer.pt", "scheduler.pt", "rng_state.pth", "training_args.bin", "x.pkl", ".metadata",
              "__0_0.distcp", "adapter_model.bin", "data.pkl")  # fmt: skip
    try:
        for file in beside:
            (folder / file).write_bytes(content)
        doors[name].enter()
    finally:
        for file in beside:
            (folder / file).unlink()
    assert not trace.exists()
    torch.load(
        _written(tmp_path / "x.pt", content), weights_only=False
    )  # the exploit works where pickles are loaded
    assert trace.exists()


def _written(file: Path, content: bytes) -> Path:
    file.write_bytes(content)
    return file


def test_pickled_weights_alone_are_refused_by_name(doors: dict[str, Door], tmp_path: Path) -> None:
    trace, folder = tmp_path / "it ran", tmp_path / "model"
    shutil.copytree(doors["model.from"].file.parent, folder)
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(pickles(trace)["a zip of torch.save"])
    with pytest.raises(ShuyuanError) as caught:
        hub.load_folder(folder)
    assert caught.value.code == "models.pickle" and not trace.exists()


DEEP = {
    "nothing": b"", "a list": b"[]", "lists without end": b"[" * 2_000_000, "tables without end": b'{"a":' * 1_000_000,
    "a number of a million digits": b'{"format": ' + b"9" * 1_000_000 + b"}", "zeros": b"\0" * 1000, "no UTF-8": b'{"\xff": 1}',
    "a table of nothing": b"{}", "only strange values": b'{"format": 1, "state": 1, "files": [], "identity": "", "circumstances": 0}',
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("resume", "state.json"),
        ("model.from", "config.json"),
        ("variant", "config.json"),
        ("transformers", "config.json"),
        ("index", "manifest.json"),
        ("index", "words.json"),
        ("index", "documents.json"),
    ],
)
def test_tables_beside_the_weights(doors: dict[str, Door], name: str, file: str) -> None:
    door = doors[name]
    beside = Door(
        door.file.with_name(file),
        door.enter,
        _fit_index if name == "index" and file != "manifest.json" else lambda _: None,
    )
    for lie, content in DEEP.items():
        with changed(beside, content), little_of_everything():
            try:
                door.enter()
            except ShuyuanError as error:
                assert error.mend and error.where, lie
            else:
                pytest.fail(f"{lie} is taken for {file}")
    door.enter()


def test_a_checkpoint_as_large_as_the_disk_is_not_read(doors: dict[str, Door]) -> None:
    """Sparse: it takes no room, and would take all memory."""
    door = doors["resume"]
    sound = door.file.read_bytes()
    try:
        with door.file.open("wb") as out:
            out.truncate(1 << 40)
        with little_of_everything(), pytest.raises(ShuyuanError, match="more than the model's state"):
            door.enter()
        state = door.file.with_name("state.json")
        whole = state.read_bytes()
        with state.open("wb") as out:
            out.truncate(1 << 40)
        with little_of_everything(), pytest.raises(ShuyuanError, match="damaged"):
            door.enter()
        state.write_bytes(whole)
    finally:
        door.file.write_bytes(sound)
