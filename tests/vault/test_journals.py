"""Sealed logs and logs in the clear: every line comes back in order, and a crash costs at most the unfinished one."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shuyuan.errors import VaultError
from shuyuan.vault import OpenStore, SealedStore
from shuyuan.vault.journal import START, SealedLog
from shuyuan.vault.seal import HEADER_BYTES, DataKey, Header, Role

from .tampering import flips

KEY = DataKey(bytes(16), 1, bytes(32))
HEADER = Header(Role.JOURNAL, KEY.run, 1, 1)
Begin = Callable[[], SealedStore]


def log(path: Path) -> SealedLog:
    return SealedLog(path, KEY, HEADER, "metrics.jsonl")


def three_lines(path: Path) -> list[int]:
    """Makes a log; returns where its lines end."""
    made = log(path)
    made.create()
    ends = [path.stat().st_size]
    for line in (b"one", b"two", b"three"):
        made.append(line)
        ends.append(path.stat().st_size)
    return ends


def test_an_unfinished_last_line_is_passed_over_and_written_over(tmp_path: Path) -> None:
    path = tmp_path / "log"
    ends = three_lines(path)
    whole = path.read_bytes()
    for cut in range(HEADER_BYTES, len(whole)):
        path.write_bytes(whole[:cut])
        again = log(path)
        kept = [b"one", b"two", b"three"][: sum(end <= cut for end in ends[1:])]
        assert again.read() == kept
        assert again.ragged == (cut not in ends)
        again.append(b"next")
        assert log(path).read() == [*kept, b"next"]


def test_zeros_of_a_power_cut_are_an_unfinished_line(tmp_path: Path) -> None:
    path = tmp_path / "log"
    ends = three_lines(path)
    whole = path.read_bytes()
    for filled in range(ends[2], ends[3] - 16):
        path.write_bytes(whole[:filled] + bytes(ends[3] - filled))
        again = log(path)
        assert again.read() == [b"one", b"two"]
        again.append(b"next")
        assert log(path).read() == [b"one", b"two", b"next"]


def test_every_flipped_bit_in_whole_lines_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "log"
    made = log(path)
    made.create(b"one", b"two")
    for _ in flips(path):
        with pytest.raises(VaultError, match=r"metrics\.jsonl"):
            made.read()
    assert made.read() == [b"one", b"two"]


def test_lines_cannot_be_moved_repeated_or_left_out(tmp_path: Path) -> None:
    path = tmp_path / "log"
    ends = three_lines(path)
    whole = path.read_bytes()
    head, one, two, three = whole[: ends[0]], *(whole[a:b] for a, b in itertools.pairwise(ends))
    for lines in (
        [two, one, three],
        [one, one, two, three],
        [one, three],
        [two, three],
        [one, two, three, three],
    ):
        path.write_bytes(head + b"".join(lines))
        with pytest.raises(VaultError):
            log(path).read()


def test_a_noted_line_that_is_gone_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "log"
    ends = three_lines(path)
    whole, reading = path.read_bytes(), log(path)
    reading.read()
    noted = reading.mark
    assert log(path).read(noted) == [b"one", b"two", b"three"]
    for cut in (ends[2], ends[2] + 5, ends[1], ends[0]):
        path.write_bytes(whole[:cut])
        with pytest.raises(VaultError, match="rolled-back"):
            log(path).read(noted)
        assert len(log(path).read(START)) < 3


def test_another_line_under_the_same_number_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "log"
    ends = three_lines(path)
    reading = log(path)
    reading.read()
    path.write_bytes(path.read_bytes()[: ends[2]])
    other = log(path)
    other.read()
    other.append(b"three")
    with pytest.raises(VaultError, match="rolled-back"):
        log(path).read(reading.mark)


def test_two_pasts_cannot_be_mixed(tmp_path: Path) -> None:
    """After a cut, other lines take the numbers of those that were; a line of the one past does not fit the other."""
    path = tmp_path / "log"
    ends = three_lines(path)
    first = path.read_bytes()
    path.write_bytes(first[: ends[1]])
    again = log(path)
    again.read()
    for line in (b"TWO", b"THREE"):
        again.append(line)
    second = path.read_bytes()
    assert len(first) == len(second)
    for mixed in (first[: ends[2]] + second[ends[2] :], second[: ends[2]] + first[ends[2] :]):
        path.write_bytes(mixed)
        with pytest.raises(VaultError, match="broken-seal"):
            log(path).read()


def test_a_number_used_twice_never_repeats_a_nonce(tmp_path: Path) -> None:
    path = tmp_path / "log"
    ends = three_lines(path)
    seen = set()
    for _ in range(50):
        path.write_bytes(path.read_bytes()[: ends[2]])
        again = log(path)
        again.read()
        again.append(b"three")
        seen.add(path.read_bytes()[ends[2] + 8 : ends[2] + 20])
    assert len(seen) == 50


# ---- as the store gives them -----------------------------------------------------------------------------------------

ENTRIES = st.lists(
    st.dictionaries(
        st.text(max_size=5).filter(lambda name: name != "chain"),
        st.none() | st.booleans() | st.integers() | st.text() | st.lists(st.text(max_size=3), max_size=3),
        max_size=4,
    ),
    max_size=6,
)


@settings(max_examples=100, deadline=None)
@given(entries=ENTRIES)
def test_a_log_in_the_clear_gives_back_its_entries(
    tmp_path_factory: pytest.TempPathFactory, entries: list[dict]
) -> None:
    folder = tmp_path_factory.mktemp("run")
    for entry in entries:
        OpenStore(folder).journal("metrics.jsonl").append(entry)
    store = OpenStore(folder)
    assert list(store.journal("metrics.jsonl").entries()) == entries
    assert store.verify() == []


def test_a_line_in_the_clear_is_flat(tmp_path: Path) -> None:
    OpenStore(tmp_path).journal("metrics.jsonl").append({"event": "notice", "text": "书院"})
    line = (tmp_path / "metrics.jsonl").read_text(encoding="utf-8")
    assert line.startswith('{"event": "notice", "text": "书院", "chain": "')
    assert list(json.loads(line)) == ["event", "text", "chain"]


def test_two_hands_on_one_journal(tmp_path: Path, begin: Begin) -> None:
    for store in (OpenStore(tmp_path / "open"), begin()):
        one, two = store.journal("metrics.jsonl"), store.journal("metrics.jsonl")
        one.append({"n": 1})
        two.append({"n": 2})
        one.append({"n": 3})
        assert [entry["n"] for entry in two.entries()] == [1, 2, 3]


def test_the_field_chain_is_the_logs_own(tmp_path: Path, begin: Begin) -> None:
    for store in (OpenStore(tmp_path / "open"), begin()):
        with pytest.raises(ValueError, match="chain"):
            store.journal("metrics.jsonl").append({"chain": "x"})


@pytest.mark.parametrize(
    "damage",
    [
        lambda lines: [lines[1], lines[0], lines[2]],
        lambda lines: [lines[0], lines[2]],
        lambda lines: [lines[0], lines[1].replace(b"2", b"5", 1), lines[2]],
        lambda lines: [lines[0], b"\xff\xfe\0 garbage\n", lines[2]],
        lambda lines: [lines[0], b"[" * 5000 + b"\n", lines[2]],
        lambda lines: [b"\n", *lines],
        lambda lines: [b"{}\n", *lines],
    ],
)
def test_accidents_in_a_log_in_the_clear_are_found(
    tmp_path: Path, damage: Callable[[list[bytes]], list[bytes]]
) -> None:
    store, names = OpenStore(tmp_path), ["data/log.jsonl", "ledger.jsonl", "metrics.jsonl"]
    for name in names:
        for n in (1, 2, 3):
            store.journal(name).append({"n": n})
        path = tmp_path / name
        path.write_bytes(b"".join(damage(path.read_bytes().splitlines(keepends=True))))
        with pytest.raises(VaultError, match="broken-log"):
            list(OpenStore(tmp_path).journal(name).entries())
        with pytest.raises(VaultError, match="broken-log"):
            OpenStore(tmp_path).journal(name).append({"n": 4})
    assert [problem.file for problem in OpenStore(tmp_path).verify()] == names


def test_a_log_in_the_clear_goes_on_after_a_crash(tmp_path: Path) -> None:
    store = OpenStore(tmp_path)
    store.journal("metrics.jsonl").append({"n": 1})
    with (tmp_path / "metrics.jsonl").open("ab") as file:
        file.write(b'{"n": 2, "cha')
    store = OpenStore(tmp_path)
    assert list(store.journal("metrics.jsonl").entries()) == [{"n": 1}]
    store.journal("metrics.jsonl").append({"n": 3})
    assert list(store.journal("metrics.jsonl").entries()) == [{"n": 1}, {"n": 3}]


def test_halves_of_surrogate_pairs_are_kept(tmp_path: Path, begin: Begin) -> None:
    for store in (OpenStore(tmp_path / "open"), begin()):
        store.journal("metrics.jsonl").append({"text": "\ud800 书"})
        assert list(store.journal("metrics.jsonl").entries()) == [{"text": "\ud800 书"}]
