"""A permit writes or reads one file of a run, in a process that has nothing else of it; a sealed run's key does not follow from it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from shuyuan.errors import MachineError, RunError, VaultError
from shuyuan.runs import Run
from shuyuan.vault import OpenStore, Permit, SealedStore, Store, landmark, open_store, sees

from .tampering import flips, place

CONTENT = bytes(range(256)) * 1000
Begin = Callable[[], SealedStore]


@pytest.fixture(params=["sealed", "open"])
def store(request: pytest.FixtureRequest, begin: Begin, run: Run) -> Store:
    if request.param == "sealed":
        return begin()
    run.path.mkdir()
    return OpenStore(run.path)


def told(permit: Permit) -> Permit:
    """As it comes to another process."""
    return Permit(**json.loads(json.dumps(asdict(permit))))


def write(permit: Permit, content: bytes = CONTENT) -> None:
    with told(permit).writer() as out:
        out.write(content[:1000])
        out.write(memoryview(content)[1000:])


def made(store: Store, content: bytes = CONTENT) -> None:
    with store.folder("checkpoints/a") as folder:
        permits = [folder.permit(f"share-{number}") for number in range(2)]
        for permit in permits:
            write(permit, content)
        folder.write("state.json", b"{}")


def test_what_is_written_and_read_by_permits_is_a_file_as_others_are(store: Store) -> None:
    made(store)
    names = ["checkpoints/a/share-0", "checkpoints/a/share-1", "checkpoints/a/state.json"]
    assert store.names() == names and store.verify() == []
    for name in names[:2]:
        assert store.read(name) == CONTENT
        with told(store.permit(name)).open() as reader:
            assert reader.size == len(CONTENT)
            assert reader.read_at(70_000, 100_000) == CONTENT[70_000:170_000]


def test_a_folder_that_is_broken_off_leaves_the_old_one_and_nothing_of_its_own(store: Store) -> None:
    made(store)
    before = sorted(file for file in store.path.rglob("*") if file.is_file() and "vault" not in file.name)
    with pytest.raises(KeyboardInterrupt), store.folder("checkpoints/a") as folder:
        write(folder.permit("share-0"), b"new" * 1000)
        folder.permit("share-1")  # never written
        raise KeyboardInterrupt
    assert store.read("checkpoints/a/share-0") == CONTENT
    assert (
        sorted(file for file in store.path.rglob("*") if file.is_file() and "vault" not in file.name)
        == before
    )


def test_a_write_that_is_broken_off_leaves_no_file(store: Store) -> None:
    with store.folder("checkpoints/a") as folder:
        permit = folder.permit("share-0")
        with pytest.raises(KeyboardInterrupt), permit.writer() as out:
            out.write(CONTENT)
            raise KeyboardInterrupt
        assert not Path(permit.path).exists()
        write(permit)
    assert store.read("checkpoints/a/share-0") == CONTENT


def test_nothing_is_written_over(store: Store) -> None:
    with store.folder("checkpoints/a") as folder:
        permit = folder.permit("share-0")
        write(permit)
        with pytest.raises(MachineError, match="exists"):
            write(permit, b"other")
    assert store.read("checkpoints/a/share-0") == CONTENT


@pytest.mark.parametrize("name", ["../outside", "/etc/passwd", "a\0b", "x.partial"])
def test_no_permit_leads_out_of_the_folder(store: Store, name: str) -> None:
    with store.folder("checkpoints/a") as folder, pytest.raises(VaultError):
        folder.permit(name)
    with pytest.raises(VaultError):
        store.permit(f"checkpoints/{name}")


def test_a_file_that_is_not_there_is_named(store: Store) -> None:
    made(store)
    with pytest.raises(RunError, match="file"), store.permit("checkpoints/a/share-2").open():
        pass
    permit = store.permit("checkpoints/a/share-1")
    Path(permit.path).unlink()
    with pytest.raises(RunError) as caught, permit.open():
        pass
    assert caught.value.where == permit.path


def test_a_permit_opens_no_other_file_and_tells_no_key_of_the_run(begin: Begin) -> None:
    store = begin()
    made(store)
    one, other = (store.permit(f"checkpoints/a/share-{number}") for number in range(2))
    assert store.key.secret.hex() not in json.dumps(asdict(one)) and one.key != other.key
    for wrong in (
        replace(other, key=one.key),
        replace(one, path=other.path),
        replace(one, path=other.path, header=other.header),
        replace(one, path=other.path, header=other.header, name=other.name),
    ):
        with pytest.raises(VaultError), wrong.open():
            pass


def test_every_flipped_bit_is_noticed_by_a_permit(begin: Begin) -> None:
    store = begin()
    made(store, b"short")
    permit = store.permit("checkpoints/a/share-0")
    for _ in flips(place(store, "checkpoints/a/share-0")):
        with pytest.raises(VaultError, match="checkpoints/a/share-0"), permit.open() as reader:
            reader.read_at(0, 100)


def test_an_older_share_that_was_put_back_gets_no_permit(begin: Begin) -> None:
    store = begin()
    made(store, b"old")
    name = "checkpoints/a/share-0"
    old = place(store, name).read_bytes()
    made(store, b"new")
    place(store, name).write_bytes(old)
    with pytest.raises(VaultError, match="older state"):
        store.permit(name)


def test_what_a_killed_run_left_of_shares_goes_when_it_is_opened_again(
    store: Store, run: Run, key: str
) -> None:
    made(store)
    left = store.folder("checkpoints/b").__enter__()
    permit = left.permit("share-0")
    write(permit)
    with open_store(run, key) if store.sealed else OpenStore(run.path) as again:
        assert not Path(permit.path).exists()
        assert again.names() == store.names() and again.verify() == []


def test_a_landmark_tells_whether_a_folder_is_the_same(tmp_path: Path) -> None:
    with landmark(tmp_path) as path:
        assert sees(path)
        assert not sees(str(tmp_path / "elsewhere" / Path(path).name))
        Path(path).rename(tmp_path / "hidden")
        assert not sees(path)
    assert [file.name for file in tmp_path.iterdir()] == ["hidden"]


def test_who_may_not_write_there_does_not_see_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    with landmark(tmp_path) as path:
        monkeypatch.setattr(Path, "touch", refused)
        assert not sees(path)
