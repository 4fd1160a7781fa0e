"""Keys: shown once, kept as digests, good until they expire or are revoked."""

from __future__ import annotations

import hashlib
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from shuyuan.errors import ServeError
from shuyuan.serve import Key, Keys, expiry, open_state
from shuyuan.serve.state import STATE_FILE
from tests.runs import shuyuan


@pytest.fixture
def state(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    with closing(open_state(tmp_path / "state")) as opened:
        yield opened


def test_a_key_is_random_and_nothing_of_it_is_kept(state: sqlite3.Connection, tmp_path: Path) -> None:
    keys = Keys(state)
    texts = [keys.add(f"user-{number}", "user")[1] for number in range(20)]
    secrets = {text.split("-", 2)[2] for text in texts}
    assert len(secrets) == 20
    assert all(len(secret) == 43 for secret in secrets)  # 256 bits in base64
    assert all(len(set(letters)) > 4 for letters in zip(*secrets, strict=True)), "each place is random"
    state.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    held = b"".join(file.read_bytes() for file in (tmp_path / "state").iterdir())
    for text in texts:
        assert text.split("-", 2)[2].encode() not in held
        assert hashlib.sha256(text.encode()).digest() in held


def test_others_cannot_read_the_state(state: sqlite3.Connection, tmp_path: Path) -> None:
    assert stat.S_IMODE((tmp_path / "state").stat().st_mode) == 0o700
    assert all(stat.S_IMODE(file.stat().st_mode) == 0o600 for file in (tmp_path / "state").iterdir())


def test_only_the_whole_key_opens(state: sqlite3.Connection) -> None:
    keys = Keys(state)
    _, text = keys.add("li", "user")
    assert keys.check(text).name == "li"
    wrong = [
        text[:-1],
        text + "a",
        text[:-1] + ("A" if text[-1] != "A" else "B"),
        text.upper(),
        "",
        "sk-",
        "\ud800",
        "é",
    ]
    wrong += [text.replace("sk-", "sk-0", 1), " " + text, text + "\n", "sk-" + "0" * 16 + text[19:]]
    for each in wrong:
        with pytest.raises(ServeError, match=r"serve\.no-key"):
            keys.check(each)


def test_a_key_may_ask_the_models_that_it_is_granted(state: sqlite3.Connection) -> None:
    keys = Keys(state)
    for number, granted in enumerate((None, [], ["demo"], ["demo", "other"])):
        _, text = keys.add(f"user-{number}", "user", models=granted)
        asked = [model for model in ("demo", "other", "") if keys.check(text).may_ask(model)]
        assert asked == (["demo", "other", ""] if granted is None else granted)


def test_digests_are_compared_in_constant_time(
    state: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    compared: list[tuple[bytes, bytes]] = []

    def watched(one: bytes, other: bytes) -> bool:
        compared.append((one, other))
        return one == other

    monkeypatch.setattr("shuyuan.serve.auth.hmac.compare_digest", watched)
    keys = Keys(state)
    _, text = keys.add("li", "user")
    keys.check(text)
    for unknown in ("nothing", "sk-" + "0" * 16 + text[19:]):
        with pytest.raises(ServeError):
            keys.check(unknown)
    assert len(compared) == 3  # also where there is nothing to compare with
    assert all(len(one) == len(other) == 32 for one, other in compared)


def test_a_key_expires_and_is_revoked(state: sqlite3.Connection) -> None:
    now = [1000.0]
    keys = Keys(state, lambda: now[0])
    key, text = keys.add("li", "user", expires=1010.0)
    keys.check(text)
    now[0] = 1010.0
    with pytest.raises(ServeError):
        keys.check(text)
    assert not keys.holds(key)
    key, text = keys.add("wang", "user")
    keys.revoke("wang")
    with pytest.raises(ServeError):
        keys.check(text)
    assert not keys.holds(key)
    with pytest.raises(ServeError, match=r"serve\.no-such-key"):
        keys.revoke("nobody")
    with pytest.raises(ServeError, match=r"serve\.name-taken"):
        keys.add("wang", "user")


def test_another_process_revokes_at_once(state: sqlite3.Connection, tmp_path: Path) -> None:
    keys = Keys(state)
    _, text = keys.add("li", "user")
    assert shuyuan("users", "revoke", "li", "--state", tmp_path / "state").status == 0
    with pytest.raises(ServeError):
        keys.check(text)


def test_the_command(tmp_path: Path) -> None:
    place = ("--state", tmp_path / "s", "--json")
    made = shuyuan("users", "add", "li", "--role", "auditor", "--model", "demo", *place).json
    assert made.keys() >= {"name", "key", "role", "expires"}
    assert (made["name"], made["role"], made["models"]) == ("li", "auditor", ["demo"])
    (listed,) = shuyuan("users", "list", *place).json["keys"]
    assert listed == {name: value for name, value in made.items() if name != "key"}
    assert made["key"] not in shuyuan("users", "list", "--state", tmp_path / "s").stdout
    assert shuyuan("users", "revoke", "li", *place).json == {"revoked": "li"}
    assert shuyuan("users", "list", *place).json["keys"][0]["revoked"] is not None
    for wrong, code in (
        (["add", "../x"], "serve.bad-name"),
        (["add", "x", "--role", "root"], "serve.bad-role"),
        (["add", "x", "--expires", "yesterday"], "serve.bad-expiry"),
        (["add", "x", "--expires", "-1d"], "serve.bad-expiry"),
        (["add", "x", "--expires", "nand"], "serve.bad-expiry"),
        (["add", "x", "--expires", "1e300d"], "serve.bad-expiry"),
        (["revoke", "x"], "serve.no-such-key"),
    ):
        outcome = shuyuan("users", *wrong, *place)
        assert (outcome.status, outcome.json["error"]["code"]) == (1, code)


def test_a_state_that_is_none(tmp_path: Path) -> None:
    (tmp_path / STATE_FILE).write_bytes(b"this is no database, and never was one" * 100)
    outcome = shuyuan("users", "list", "--state", tmp_path, "--json")
    assert outcome.json["error"]["code"] == "serve.no-state"


def test_when_keys_expire() -> None:
    assert expiry("never", 0.0) is None
    assert expiry("2d", 100.0) == 100.0 + 2 * 86400
    assert expiry("1970-01-03", 0.0) == 2 * 86400


class KeysMachine(RuleBasedStateMachine):
    """Whatever is added, revoked and waited for, exactly the right keys open."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0
        self.state = sqlite3.connect(":memory:", isolation_level=None)
        from shuyuan.serve.state import _TABLES

        self.state.executescript(_TABLES)
        self.keys = Keys(self.state, lambda: self.now)
        self.made: dict[str, tuple[Key, str]] = {}
        self.revoked: set[str] = set()

    @rule(role=st.sampled_from(["admin", "user", "auditor"]), lasts=st.none() | st.floats(1, 100))
    def add(self, role: str, lasts: float | None) -> None:
        name = f"k{len(self.made)}"
        self.made[name] = self.keys.add(name, role, None if lasts is None else self.now + lasts)

    @rule(data=st.data())
    def revoke(self, data: st.DataObject) -> None:
        if self.made:
            name = data.draw(st.sampled_from(sorted(self.made)))
            self.keys.revoke(name)
            self.revoked.add(name)

    @rule(seconds=st.floats(0, 60))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @invariant()
    def exactly_the_right_ones_open(self) -> None:
        for name, (key, text) in self.made.items():
            good = name not in self.revoked and (key.expires is None or self.now < key.expires)
            assert self.keys.holds(key) is good
            try:
                opened = self.keys.check(text) == next(k for k in self.keys.all() if k.name == name)
            except ServeError:
                opened = False
            assert opened is good

    def teardown(self) -> None:
        self.state.close()


TestKeysMachine = KeysMachine.TestCase
TestKeysMachine.settings = settings(
    max_examples=20, stateful_step_count=12, deadline=None, suppress_health_check=list(HealthCheck)
)
