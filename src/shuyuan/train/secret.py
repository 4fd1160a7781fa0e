"""The secret that a private run draws from: made once, kept while it trains, erased at its end."""

from __future__ import annotations

import hashlib
import json
import os
from typing import Any

from ..errors import PrivacyError
from ..privacy import derive
from ..recipe import Recipe
from ..vault import Store

SECRET_FILE = "privacy-secret.json"
STREAM = "chacha20"  # what turns a secret into noise


def run_secret(store: Store, recipe: Recipe, identity: dict[str, Any], *, begun: bool) -> bytes:
    """The secret of this recipe and this data: made at the first start, found again at every later one.

    Args:
        store: keeps it, sealed in a sealed run, until `erase_secret`.
        recipe: may ask for an insecure one.
        identity: what shapes the result, with the digest of the "weights" to start from; another one gives another secret,
            so that no noise is ever used for two sums.
        begun: whether some steps are made, and others are still to be made.

    Raises:
        PrivacyError: steps were made, and the secret is gone, or was of other weights to start from or of another stream.
    """
    assert recipe.privacy is not None
    if recipe.privacy.insecure_seed is not None:
        secret = recipe.privacy.insecure_seed.to_bytes(32, "big")
    else:
        kept = store.read_json(SECRET_FILE) if store.exists(SECRET_FILE) else {}
        if begun and not kept:
            raise PrivacyError(
                "privacy.secret-lost",
                "Steps were made with a secret that is gone; with another one, more would be spent than was promised.",
                where=str(store.path),
                mend="Begin a new run in another folder; the ledger of this one keeps what it spent.",
            )
        if begun and kept["weights"] != identity["weights"]:
            raise PrivacyError(
                "privacy.other-start",
                "Steps were made from other weights than those that the recipe names now; with these, other noise would "
                "be drawn, and more would be spent than was promised.",
                where="model.from",
                mend="Put the weights back, or begin a new run in another folder.",
            )
        if begun and kept.get("stream") != STREAM:
            raise PrivacyError(
                "privacy.other-stream",
                "Steps were made by a version of Shuyuan that draws other noise from a secret; more would be spent than was promised.",
                where=str(store.path),
                mend="Go on with that version, or begin a new run in another folder; the ledger of this one keeps what it spent.",
            )
        if (kept.get("weights"), kept.get("stream")) != (identity["weights"], STREAM):
            kept = {"secret": os.urandom(32).hex(), "weights": identity["weights"], "stream": STREAM}
            store.write_json(SECRET_FILE, kept)
        secret = bytes.fromhex(kept["secret"])
    digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
    return derive(secret, f"run {digest}")


def erase_secret(store: Store) -> None:
    """Nobody can compute the noise again, and so subtract it."""
    if store.exists(SECRET_FILE):
        store.remove(SECRET_FILE)
