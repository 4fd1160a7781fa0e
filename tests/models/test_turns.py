"""Turns: nobody gets more than others who are there, and somebody always goes on."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from shuyuan.models.compiled.turns import AHEAD_TOKENS, Turns

MOST = 64  # tokens of one tenant in a step


@given(st.lists(st.lists(st.tuples(st.sampled_from("abcd"), st.integers(1, MOST)), min_size=1), max_size=60))
def test_somebody_always_goes_on(steps: list[list[tuple[str, int]]]) -> None:
    turns = Turns()
    for step in steps:
        wanted = dict(step)
        resting = turns.resting(set(wanted))
        assert resting < set(wanted)
        for tenant in wanted.keys() - resting:
            turns.count(tenant, wanted[tenant])


@given(st.dictionaries(st.sampled_from("abcd"), st.integers(1, MOST), min_size=2), st.integers(0, 200))
def test_those_who_stay_get_the_same(wanted: dict[str, int], steps: int) -> None:
    turns, got = Turns(), Counter[str]()
    for _ in range(steps):
        resting = turns.resting(wanted.keys())
        for tenant in wanted.keys() - resting:
            turns.count(tenant, wanted[tenant])
            got[tenant] += wanted[tenant]
        assert max(got.values()) - min(got.values()) <= AHEAD_TOKENS + MOST


def test_who_comes_has_no_credit_and_no_debt() -> None:
    turns = Turns()
    assert turns.resting({"old"}) == set()
    turns.count("old", 1000)
    assert turns.resting({"old"}) == set()  # it is alone
    assert turns.resting({"old", "new"}) == set()
    turns.count("old", AHEAD_TOKENS + 1)
    assert turns.resting({"old", "new"}) == {"old"}
    turns.count("new", 1)
    assert turns.resting({"old", "new"}) == set()
