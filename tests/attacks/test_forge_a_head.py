"""Exploit: cut the index and sign a head for what is left, with a key of one's own."""

from __future__ import annotations

import json
import os

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from shuyuan.errors import VaultError
from shuyuan.vault.head import Head, Signer
from shuyuan.vault.seal import DataKey

from .conftest import Target


def test_a_head_signed_by_another_key(target: Target) -> None:
    store = target.open()
    past = target.past[2]
    head = store.index.heads[json.loads(past["vault-1.head"])["count"]]
    (store.path / "vault-1.index").write_bytes(past["vault-1.index"])
    forger = Signer(DataKey(store.key.run, 1, os.urandom(32)))
    (store.path / "vault-1.head").write_bytes(forger.render(head))
    assert target.problems() == ["vault-1.head"]
    true_key = json.loads((store.path / "vault.json").read_text())["public_key"]
    forged = json.loads(forger.render(head)) | {"public_key": true_key}
    (store.path / "vault-1.head").write_text(json.dumps(forged, indent=2) + "\n")
    assert target.problems() == ["vault-1.head"]


def test_a_true_signature_over_another_count(target: Target) -> None:
    store = target.open()
    newest = store.index.heads[-1]
    table = json.loads((store.path / "vault-1.head").read_text())
    for change in ({"count": newest.count - 1}, {"count": newest.count + 1}, {"count": -1}, {"count": 1 << 70}, {"count": None},
                   {"head": store.index.heads[-2].digest.hex()}, {"head": 5}, {"signature": ""}):  # fmt: skip
        (store.path / "vault-1.head").write_text(json.dumps(table | change, indent=2) + "\n")
        assert target.problems() == ["vault-1.head"]


def test_a_head_that_is_gone(target: Target) -> None:
    (target.run.path / "vault-1.head").unlink()
    with pytest.raises(VaultError, match="head is gone"):
        target.open()


def test_anyone_can_check_a_head_with_the_public_key_alone(target: Target) -> None:
    """docs/vault-format.md promises an auditor this: no key, no Shuyuan."""
    store = target.open()
    table = json.loads((store.path / "vault-1.head").read_text())
    public = json.loads((store.path / "vault.json").read_text())["public_key"]
    message = b"shuyuan/1/head\0" + store.key.run + (1).to_bytes(4, "big") + table["count"].to_bytes(8, "big")
    message += bytes.fromhex(table["head"])
    Ed25519PublicKey.from_public_bytes(bytes.fromhex(public)).verify(
        bytes.fromhex(table["signature"]), message
    )
    assert Head(table["count"], bytes.fromhex(table["head"])) == store.index.heads[-1]
