"""Open and sealed runs are read and written alike, and both do what a dictionary would do."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from shuyuan import vault
from shuyuan.errors import RunError, VaultError
from shuyuan.runs import Run
from shuyuan.vault import OpenStore, SealedStore, clear_file
from shuyuan.vault.seal import MAGIC

from .tampering import place

FILES = st.sampled_from(["scores.json", "data/a.shard", "data/b.shard", "model/x", "model/y"])
FOLDERS = st.sampled_from(["model", "checkpoints/step-1", "checkpoints/step-2"])
JOURNALS = st.sampled_from(["metrics.jsonl", "data/log.jsonl"])
# Nothing that is written in the clear begins like a sealed file, by which a run is told to be sealed.
CONTENT = st.binary(max_size=40).filter(lambda content: not content.startswith(MAGIC))


class Alike(RuleBasedStateMachine):
    """Random operations on both kinds of store and on a dictionary."""

    @initialize()
    def begin(self) -> None:
        self.folder = Path(tempfile.mkdtemp())
        key = vault.write_key_file(self.folder / "key")
        self.runs = [(Run(self.folder / "open"), None), (Run(self.folder / "sealed"), f"file:{key}")]
        for run, _ in self.runs:
            run.path.mkdir()
        self.stores = [vault.open_store(run, spec, create=True) for run, spec in self.runs]
        self.files: dict[str, bytes] = {}
        self.logs: dict[str, list[dict[str, int]]] = {}
        self.head: str | None = None

    @rule(name=FILES, content=CONTENT)
    def write(self, name: str, content: bytes) -> None:
        for store in self.stores:
            store.write(name, content)
        self.files[name] = content

    @rule(name=FILES, content=CONTENT)
    def write_open(self, name: str, content: bytes) -> None:
        for store in self.stores:
            store.write_open(name, content)
        self.files[name] = content

    @rule(name=FILES, pieces=st.lists(CONTENT, max_size=3))
    def write_in_pieces(self, name: str, pieces: list[bytes]) -> None:
        for store in self.stores:
            with store.writer(name) as out:
                for piece in pieces:
                    out.write(piece)
        self.files[name] = b"".join(pieces)

    @rule(name=FILES)
    def break_off(self, name: str) -> None:
        for store in self.stores:
            with pytest.raises(KeyboardInterrupt), store.writer(name) as out:
                out.write(b"half")
                raise KeyboardInterrupt
            with pytest.raises(KeyboardInterrupt), store.folder("model") as folder:
                folder.write("x", b"half")
                raise KeyboardInterrupt

    @rule(name=FOLDERS, files=st.dictionaries(st.sampled_from(["x", "y", "z"]), CONTENT, min_size=1))
    def write_folder(self, name: str, files: dict[str, bytes]) -> None:
        for store in self.stores:
            with store.folder(name) as folder:
                for file, content in files.items():
                    folder.write(file, b"first")
                    folder.write(file, content)
        self.remove_from_model(name)
        self.files |= {f"{name}/{file}": content for file, content in files.items()}

    @rule(name=FILES | FOLDERS | JOURNALS | st.just("not-there"))
    def remove(self, name: str) -> None:
        for store in self.stores:
            store.remove(name)
        self.remove_from_model(name)

    @rule(name=JOURNALS, number=st.integers(0, 9))
    def append(self, name: str, number: int) -> None:
        for store in self.stores:
            store.journal(name).append({"n": number})
        self.logs.setdefault(name, []).append({"n": number})

    @rule()
    def open_again(self) -> None:
        self.head = self.stores[1].head()
        for store in self.stores:
            store.close()
        self.stores = [vault.open_store(run, spec) for run, spec in self.runs]

    @rule()
    def verify(self) -> None:
        assert self.stores[0].verify() == []
        assert self.stores[1].verify(self.head) == []
        reading = vault.open_store(*self.runs[1], writable=False)
        assert reading.verify(self.head) == []
        assert reading.names() == self.stores[0].names()

    @invariant()
    def all_is_alike(self) -> None:
        for store in getattr(self, "stores", []):
            assert store.names() == sorted([*self.files, *self.logs])
            assert store.names("data/") == [name for name in store.names() if name.startswith("data/")]
            for name, content in self.files.items():
                assert store.read(name) == content
                with store.open(name) as reader:
                    assert reader.size == len(content)
                    assert reader.read_at(3, 5) == content[3:8]
            for name, lines in self.logs.items():
                assert list(store.journal(name).entries()) == lines
            assert store.exists("model") == any(name.startswith("model/") for name in self.files)

    def remove_from_model(self, name: str) -> None:
        for known in (self.files, self.logs):
            for gone in [
                known_name for known_name in known if known_name == name or known_name.startswith(name + "/")
            ]:
                del known[gone]  # type: ignore[attr-defined]

    def teardown(self) -> None:
        for store in getattr(self, "stores", []):
            store.close()
        shutil.rmtree(self.folder, ignore_errors=True)


TestAlike = Alike.TestCase
TestAlike.settings = settings(
    max_examples=25, stateful_step_count=20, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)


@pytest.fixture(params=["open", "sealed"])
def store(request: pytest.FixtureRequest, tmp_path: Path, begin: Callable[[], SealedStore]) -> vault.Store:
    return OpenStore(tmp_path / "open") if request.param == "open" else begin()


@pytest.mark.parametrize(
    "name",
    ["", "/etc/passwd", "../x", "data/../../x", "data/./x", "data//x", "data/", "a\\b", "C:x", "a\0b", "a\nb", ".lock",
     "vault.json", "vault-1.index", "vault-12.head", "x.partial", "x.partial/y", "\ud800"],
)  # fmt: skip
def test_names_stay_inside_the_run(store: vault.Store, name: str, tmp_path: Path) -> None:
    store.path.mkdir(exist_ok=True)
    before = sorted(tmp_path.rglob("*"))
    attempts: list[Callable[[], object]] = [
        lambda: store.write(name, b"x"),
        lambda: store.write_open(name, b"x"),
        lambda: store.folder(name).__enter__(),
        lambda: store.journal(name).append({}),
    ]
    for attempt in attempts:
        with pytest.raises(VaultError, match="bad-name"):
            attempt()
    with pytest.raises(VaultError, match="bad-name"):
        store.remove(name)
    with pytest.raises((VaultError, RunError)):
        store.read(name)
    if name not in (
        ".lock",
        "vault.json",
        "vault-1.index",
        "vault-12.head",
    ):  # these are the run's own at the top only
        with pytest.raises(VaultError, match="bad-name"), store.folder("model") as folder:
            folder.write(name, b"x")
    assert sorted(tmp_path.rglob("*")) == before


def test_what_is_not_there_is_said(store: vault.Store) -> None:
    with pytest.raises(RunError, match="missing-file"):
        store.read("scores.json")
    assert not store.exists("scores.json")
    assert list(store.journal("metrics.jsonl").entries()) == []
    assert store.names() == []


def test_json_is_kept(store: vault.Store) -> None:
    store.write_json("scores.json", {"书院": [1.5, None]})
    assert store.read_json("scores.json") == {"书院": [1.5, None]}


def test_two_writers_of_one_store_do_not_disturb_each_other(store: vault.Store) -> None:
    with store.writer("data/a") as a, store.writer("data/b") as b:
        a.write(b"1")
        with pytest.raises(ZeroDivisionError), store.folder("data/sub") as folder:
            folder.write("x", b"x")
            _ = 1 / 0
        store.journal("metrics.jsonl").append({"n": 1})
        b.write(b"2")
    assert (store.read("data/a"), store.read("data/b")) == (b"1", b"2")
    assert store.names() == ["data/a", "data/b", "metrics.jsonl"]


def test_a_reader_never_writes(begin: Callable[[], SealedStore], run: Run, key: str) -> None:
    begin().close()
    reading = vault.open_store(run, key, writable=False)
    for attempt in (
        lambda: reading.write("x", b""),
        lambda: reading.write_open("x", b""),
        lambda: reading.remove("x") or reading.journal("x").append({}),
    ):
        with pytest.raises(RuntimeError):
            attempt()


def test_keys_for_purposes(store: vault.Store, begin: Callable[[], SealedStore], tmp_path: Path) -> None:
    one = store.derive_key("fingerprint")
    assert len(one) == 32
    assert one == store.derive_key("fingerprint") != store.derive_key("split")
    other = OpenStore(tmp_path / "other")
    assert (other.derive_key("fingerprint") == one) == (not store.sealed)


def test_the_outside_of_a_sealed_run_says_nothing(begin: Callable[[], SealedStore]) -> None:
    with begin() as store:
        store.write("data/patient-7.shard", b"x")
        store.write("scores.json", b"x")
        assert place(store, "data/patient-7.shard").parent.name == "data"
        assert place(store, "scores.json").parent.name == "sealed"
        first = place(store, "scores.json").name
        store.write("scores.json", b"x")
        assert place(store, "scores.json").name != first
    names = " ".join(path.name for path in store.path.rglob("*"))
    assert "patient" not in names and "scores" not in names


def test_thousands_of_records_open_at_once(begin: Callable[[], SealedStore], run: Run, key: str) -> None:
    with begin() as store:
        for number in range(1500):
            store.index.append({"put": [[f"data/{number % 200}", number, f"{number:064x}"]]})
            store.index.append({"anchor": []})
        store.index.sign()
    started = time.process_time()
    vault.open_store(run, key, writable=False)
    assert time.process_time() - started < 0.3  # 0.05 on a quiet machine


def test_an_open_run_in_the_middle_of_a_folder_is_put_right(tmp_path: Path) -> None:
    """A kill between the two renames: the old folder comes back."""
    store = OpenStore(tmp_path)
    with store.folder("model") as folder:
        folder.write("x", b"old")
    (tmp_path / "model").rename(tmp_path / "model.old.partial")
    (tmp_path / "model.partial").mkdir()
    (tmp_path / "data.bin.partial").write_bytes(b"half")
    assert OpenStore(tmp_path, writable=False).names() == []
    assert OpenStore(tmp_path).read("model/x") == b"old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model"]


def test_a_read_longer_than_the_system_gives_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = OpenStore(tmp_path)
    store.write("big", bytes(range(256)) * 5)
    monkeypatch.setattr(clear_file, "READ_BYTES", 100)
    assert store.read("big") == bytes(range(256)) * 5
    with store.open("big") as reader:
        assert reader.read_at(250, 12) == bytes([250, 251, 252, 253, 254, 255, 0, 1, 2, 3, 4, 5])
        assert reader.read_at(1270, 100) == bytes(range(246, 256))
        assert reader.read_at(5000, 10) == b""


def test_an_open_run_says_that_it_has_no_head_to_expect(tmp_path: Path) -> None:
    store = vault.OpenStore(tmp_path)
    assert store.verify() == []
    assert "no head" in store.verify(expect="0" * 64)[0].what
