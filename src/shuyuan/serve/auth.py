"""Who may come in: keys of 256 random bits, of which the server keeps a digest and nothing else."""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import secrets
import sqlite3
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, get_args

from ..errors import ServeError

Role = Literal["admin", "user", "auditor"]
ROLES: tuple[Role, ...] = get_args(Role)
_KEY = re.compile(r"sk-([0-9a-f]{16})-[A-Za-z0-9_-]{43}")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.@-]{0,63}")
_NOBODY = bytes(32)  # compared with where no key has that id, so that the time tells nothing


@dataclass(frozen=True)
class Key:
    """Who a key belongs to and what it opens.

    Attributes:
        name: of whoever has it.
        role: admin may do all, user may ask models, auditor may read what the admin reads.
        models: which it may ask; None: all.
        created, expires, revoked: seconds since 1970; None: never.
    """

    name: str
    role: Role
    models: tuple[str, ...] | None = None
    created: float = 0.0
    expires: float | None = None
    revoked: float | None = None
    id: str = field(default="", repr=False)

    def may_ask(self, model: str) -> bool:
        """Whether it is granted a model."""
        return self.models is None or model in self.models

    def as_dict(self) -> dict[str, Any]:
        """As the command and the API print it; times in ISO 8601."""
        return {
            "name": self.name,
            "role": self.role,
            "models": None if self.models is None else list(self.models),
            "created": moment(self.created),
            "expires": moment(self.expires),
            "revoked": moment(self.revoked),
        }


class Keys:
    """The keys of a server. Every question is asked of the state itself, so that what another process revokes is revoked.

    Args:
        state: as `open_state` gives it.
        clock: seconds since 1970.
    """

    def __init__(self, state: sqlite3.Connection, clock: Callable[[], float] = time.time) -> None:
        self._state = state
        self._clock = clock

    def add(
        self, name: str, role: str, expires: float | None = None, models: Sequence[str] | None = None
    ) -> tuple[Key, str]:
        """Makes a key. Its text is given here and never again.

        Args:
            name: letters, digits and _.@-; one that was revoked is not given again, since the audit log names it.
            role: admin, user or auditor.
            expires: seconds since 1970; None: never.
            models: which it may ask; None: all.

        Raises:
            ServeError: there is such a name or no such role.
        """
        if not _NAME.fullmatch(name):
            raise ServeError(
                "serve.bad-name",
                f"{name[:64]!r} is no name for a key.",
                mend="Take up to 64 letters, digits, _ . @ and -.",
            )
        if role not in ROLES:
            raise ServeError(
                "serve.bad-role", f"{role[:40]!r} is no role.", mend=f"Take one of: {', '.join(ROLES)}."
            )
        identity = secrets.token_hex(8)
        text = f"sk-{identity}-{secrets.token_urlsafe(32)}"
        granted = None if models is None else json.dumps(list(models))
        try:
            self._state.execute(
                "INSERT INTO keys VALUES (?, ?, ?, ?, ?, ?, ?, NULL)",
                (name, identity, _digest(text), role, granted, self._clock(), expires),
            )
        except sqlite3.IntegrityError:
            raise ServeError(
                "serve.name-taken",
                f"There is a key named {name}, or there was one.",
                status=409,
                mend="Take another name.",
            ) from None
        return next(key for key in self.all() if key.name == name), text

    def all(self) -> list[Key]:
        """All keys, revoked ones too, the oldest first."""
        rows = self._state.execute(f"SELECT {_COLUMNS} FROM keys ORDER BY created, name")
        return [_key(row) for row in rows]

    def revoke(self, name: str) -> None:
        """Makes a key useless at once.

        Args:
            name: of the key. One that is revoked already keeps its date.

        Raises:
            ServeError: there is none of that name.
        """
        done = self._state.execute(
            "UPDATE keys SET revoked = COALESCE(revoked, ?) WHERE name = ?", (self._clock(), name)
        )
        if not done.rowcount:
            raise ServeError(
                "serve.no-such-key",
                f"There is no key named {name[:64]!r}.",
                status=404,
                mend="`shuyuan users list` names them.",
            )

    def check(self, text: str) -> Key:
        """Whose key this is.

        Args:
            text: the whole key, as it was sent.

        Raises:
            ServeError: nobody's, or no longer. What is wrong with it is not said, since a stranger asks.
        """
        form = _KEY.fullmatch(text)
        row = self._row("id", form[1]) if form else None
        right = hmac.compare_digest(_digest(text), row[-1] if row else _NOBODY)
        if row is None or not right or not self._valid(_key(row)):
            raise no_entry()
        return _key(row)

    def find(self, identity: str) -> Key | None:
        """The key of that id, if it is good.

        Args:
            identity: `Key.id`, which is no secret.

        Returns:
            None where there is none, or it is revoked or expired.
        """
        row = self._row("id", identity)
        return None if row is None or not self._valid(_key(row)) else _key(row)

    def holds(self, key: Key) -> bool:
        """Whether a key that was checked before is still good.

        Args:
            key: as `check` gave it.
        """
        return self.find(key.id) is not None

    def _valid(self, key: Key) -> bool:
        return key.revoked is None and (key.expires is None or self._clock() < key.expires)

    def _row(self, column: str, value: str) -> tuple[Any, ...] | None:
        found: tuple[Any, ...] | None = self._state.execute(
            f"SELECT {_COLUMNS}, digest FROM keys WHERE {column} = ?", (value,)
        ).fetchone()
        return found


_COLUMNS = "name, role, models, created, expires, revoked, id"


def _key(row: tuple[Any, ...]) -> Key:
    name, role, models, created, expires, revoked, identity = row[:7]
    granted = None if models is None else tuple(json.loads(models))
    return Key(name, role, granted, created, expires, revoked, identity)


def _digest(text: str) -> bytes:
    """A key has 256 random bits, so that nothing slower than SHA-256 is needed."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


def no_entry() -> ServeError:
    """The refusal of whoever has no good key."""
    return ServeError(
        "serve.no-key",
        "A good key is needed here.",
        status=401,
        headers={"WWW-Authenticate": "Bearer"},
        mend="Send one as `Authorization: Bearer KEY`; `shuyuan users add` makes them.",
    )


def moment(seconds: float | None) -> str | None:
    """A time in ISO 8601, UTC.

    Args:
        seconds: since 1970; None stays None.
    """
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")


def expiry(text: str, now: float) -> float | None:
    """When a key expires: "never", "90d", or a date such as 2027-01-31.

    Args:
        text: one of these.
        now: seconds since 1970.

    Raises:
        ServeError: it is none of them, or lies in the past.
    """
    if text == "never":
        return None
    try:
        if text.endswith("d"):
            when = now + timedelta(days=float(text[:-1])).total_seconds()
        else:
            date = datetime.fromisoformat(text)
            when = (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp()
        moment(when)
    except (ValueError, OverflowError, OSError):
        when = 0.0
    if not when > now:
        raise ServeError(
            "serve.bad-expiry",
            f"`{text[:40]}` is no time to come.",
            mend='Give "never", days such as "90d", or a date such as "2030-01-31".',
        )
    return when
