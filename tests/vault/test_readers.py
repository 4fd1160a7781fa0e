"""Who looks on while another process writes sees one whole state after the other, and disturbs nothing."""

from __future__ import annotations

from collections.abc import Callable

from shuyuan import vault
from shuyuan.runs import Run
from shuyuan.vault import SealedStore

from .crashes import at_every_step
from .test_crashes import OPERATIONS, state


def test_a_reader_beside_a_writer(begin: Callable[[], SealedStore], run: Run, key: str) -> None:
    with run.lock("test"):
        store = begin()
        seen: list[object] = []
        states = [state(store)]
        looked = 0

        def look(step: str) -> None:
            nonlocal looked
            looked += 1
            reading = vault.open_store(run, key, writable=False)
            assert reading.verify() == []
            found = state(reading)
            if not seen or seen[-1] != found:
                seen.append(found)

        for operation in OPERATIONS:
            with at_every_step(look):
                operation(store)
            states.append(state(store))
        assert looked > 100
        distinct = [now for at, now in enumerate(states) if at == 0 or now != states[at - 1]]
        assert seen == distinct  # nothing in between, and nothing twice


def test_a_reader_that_stays_open_reads_on(begin: Callable[[], SealedStore], run: Run, key: str) -> None:
    """Its list of names is from the time it opened; what it reads is whole, and as new as the file on the disk."""
    with run.lock("test"):
        store = begin()
        store.write("data/x", b"one")
        store.write_open("plan.json", b"{}")
        store.journal("metrics.jsonl").append({"n": 0})
        reading = vault.open_store(run, key, writable=False)
        found: set[bytes] = set()
        counts = []

        def look(step: str) -> None:
            found.add(reading.read("data/x"))
            assert reading.read("plan.json") in (b"{}", b"[]")
            counts.append(len(list(reading.journal("metrics.jsonl").entries())))

        with at_every_step(look), reading.open("data/x") as held:
            store.write("data/x", b"two")
            store.write_open("plan.json", b"[]")
            store.journal("metrics.jsonl").append({"n": 1})
            store.write("data/x", b"three")
            assert held.read_at(0, 9) == b"one"
        assert found == {b"one", b"two", b"three"}
        assert counts == sorted(counts) and counts[-1] == 2
