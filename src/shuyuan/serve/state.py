"""What the server remembers between two starts: one SQLite file, written ahead, so that a kill at any moment leaves it whole."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

from ..errors import ServeError, reason

STATE_FILE = "server.sqlite3"
BUSY_SECONDS = 10.0
_TABLES = """
CREATE TABLE IF NOT EXISTS keys (
    name TEXT PRIMARY KEY, id TEXT NOT NULL UNIQUE, digest BLOB NOT NULL, role TEXT NOT NULL, models TEXT,
    created REAL NOT NULL, expires REAL, revoked REAL
) STRICT;
CREATE TABLE IF NOT EXISTS usage (
    name TEXT NOT NULL, day TEXT NOT NULL, model TEXT NOT NULL, requests INTEGER NOT NULL, prompt_tokens INTEGER NOT NULL,
    completion_tokens INTEGER NOT NULL, PRIMARY KEY (name, day, model)
) STRICT;
CREATE TABLE IF NOT EXISTS sessions (digest BLOB PRIMARY KEY, key TEXT NOT NULL, expires REAL NOT NULL) STRICT;
"""


def default_folder() -> Path:
    """Where the server's state lies: $SHUYUAN_HOME/server, else $XDG_DATA_HOME/shuyuan/server, by default under ~/.local/share."""
    home = os.environ.get("SHUYUAN_HOME")
    if home:
        return Path(home).expanduser() / "server"
    return Path(os.environ.get("XDG_DATA_HOME") or "~/.local/share").expanduser() / "shuyuan" / "server"


def open_state(folder: Path) -> sqlite3.Connection:
    """The state in a folder, which is made if need be and which its owner alone can read.

    Args:
        folder: the folder; several processes may have it open.

    Raises:
        ServeError: it cannot be made, or holds something else.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        file = folder / STATE_FILE
        os.close(os.open(file, os.O_RDWR | os.O_CREAT, 0o600))  # SQLite's own would be readable by all
        state = sqlite3.connect(file, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
        state.execute("PRAGMA journal_mode = WAL")
        state.execute("PRAGMA synchronous = NORMAL")
        state.executescript(_TABLES)
    except (OSError, sqlite3.Error) as error:
        raise ServeError(
            "serve.no-state",
            f"The server's state cannot be opened ({reason(error)}).",
            where=str(folder),
            mend="Name a folder that can be written with --state, or restore it from a copy.",
        ) from None
    return state
