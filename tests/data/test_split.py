"""No owner on both sides; adding records moves nobody; a text is cut into contiguous stretches."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from shuyuan.data.split import TEST, TRAIN, VALIDATION, Lottery, by_owner, by_place
from shuyuan.data.survey import named_owner, owner_hash


def draws(owners: list[bytes], seed: int = 1) -> np.ndarray:  # type: ignore[type-arg]
    lottery = Lottery(seed)
    return np.array([lottery.draw(owner) for owner in owners], np.uint64)


@given(st.lists(st.binary(max_size=8), min_size=1, max_size=50), st.lists(st.binary(max_size=8), max_size=50))
def test_stable_when_records_are_added(owners: list[bytes], more: list[bytes]) -> None:
    alone = by_owner(draws(owners), 0.2, 0.1)
    together = by_owner(draws(owners + more), 0.2, 0.1)
    assert (alone == together[: len(owners)]).all()
    by_name = {}
    for owner, split in zip(owners + more, together.tolist(), strict=True):
        assert by_name.setdefault(owner, split) == split


def test_shares_are_met_and_seeds_differ() -> None:
    owners = [str(number).encode() for number in range(20_000)]
    split = by_owner(draws(owners), 0.1, 0.2)
    assert abs((split == VALIDATION).mean() - 0.1) < 0.01
    assert abs((split == TEST).mean() - 0.2) < 0.01
    other = by_owner(draws(owners, seed=2), 0.1, 0.2)
    assert abs((split == other).mean() - (0.7**2 + 0.1**2 + 0.2**2)) < 0.02


def test_a_test_share_leaves_the_validation_split_alone() -> None:
    numbers = draws([str(number).encode() for number in range(1000)])
    without, with_test = by_owner(numbers, 0.1, 0), by_owner(numbers, 0.1, 0.1)
    assert ((without == VALIDATION) == (with_test == VALIDATION)).all()


def test_blocks_are_cut_in_order() -> None:
    split = by_place(np.full(100, 7, np.uint32), 0.1, 0.2)
    assert split.tolist() == [TRAIN] * 70 + [VALIDATION] * 10 + [TEST] * 20
    assert by_place(np.full(10, 7, np.uint32), 0.1, 0).tolist() == [TRAIN] * 9 + [VALIDATION]


def test_what_stands_for_an_owner_tells_nothing_without_the_runs_key() -> None:
    names = [named_owner(b"li"), named_owner(b"wang"), b"record:li"]
    known = {owner_hash(name, key) for name in names for key in (bytes(32), bytes(31) + b"\1")}
    assert len(known) == 6 and owner_hash(names[0], bytes(32)) in known
