"""docs/vault-format.md is true: its vectors hold, and what it says is enough to open a real run without Shuyuan."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from shuyuan.runs import Run
from shuyuan.vault import SealedStore
from shuyuan.vault.head import Head, Signer
from shuyuan.vault.journal import SealedLog
from shuyuan.vault.keys import Secret, read_secret, render_key
from shuyuan.vault.names import sealed_path
from shuyuan.vault.seal import DataKey, Header, SealedReader
from shuyuan.vault.vault_file import read_vault_file

DOC = Path(__file__).parents[2] / "docs" / "vault-format.md"
VECTORS: dict[str, Any] = json.loads(DOC.read_text(encoding="utf-8").split("```json\n")[1].split("```")[0])
RUN = bytes.fromhex(VECTORS["vault.json"]["file"]["run"])
KEY = DataKey(RUN, 1, bytes.fromhex(VECTORS["vault.json"]["data_key"]))


# ---- the vectors, by Shuyuan -----------------------------------------------------------------------------------------


def test_key_string(monkeypatch: pytest.MonkeyPatch) -> None:
    vector = VECTORS["key string"]
    assert render_key(bytes.fromhex(vector["bits"])) == vector["text"]
    monkeypatch.setenv("K", vector["text"])
    assert read_secret("env:K").value.hex() == vector["bits"]


def test_vault_file(tmp_path: Path) -> None:
    vector = VECTORS["vault.json"]
    (tmp_path / "vault.json").write_text(json.dumps(vector["file"]))
    file = read_vault_file(tmp_path)
    bits = Secret("key", bytes.fromhex(VECTORS["key string"]["bits"]), "test")
    phrase = Secret("passphrase", vector["passphrase"].encode(), "test")
    assert file.unlock(bits) == (KEY, "key-1")
    assert file.unlock(phrase) == (KEY, "recovery")
    assert json.loads(file.render()) == vector["file"]
    assert Signer(KEY).public_key == vector["file"]["public_key"]


@pytest.mark.parametrize("which", ["sealed file", "empty file"])
def test_sealed_file(tmp_path: Path, which: str) -> None:
    vector = VECTORS[which]
    path = tmp_path / "file"
    path.write_bytes(bytes.fromhex(vector["sealed"]))
    header = Header.unpack(bytes.fromhex(vector["header"]))
    assert header is not None
    assert (header.generation, header.salt.hex(), header.segment_bytes) == tuple(
        vector[part] for part in ("generation", "salt", "segment_bytes")
    )
    reader = SealedReader(path, KEY, header, vector["name"])
    assert reader.read_at(0, reader.size).hex() == vector["content"]
    assert sealed_path(vector["name"], RUN, header.salt) == vector["path"]
    reader.close()


def test_journal_and_index(tmp_path: Path) -> None:
    path = tmp_path / "log"
    for vector, name, lines in (
        (VECTORS["journal"], "metrics.jsonl", VECTORS["journal"]["lines"]),
        (VECTORS["index and head"], "index", [VECTORS["index and head"]["record"]]),
    ):
        path.write_bytes(bytes.fromhex(vector["sealed"]))
        header = Header.unpack(path.read_bytes())
        assert header is not None
        assert [line.decode() for line in SealedLog(path, KEY, header, name).read()] == lines
    stated = VECTORS["index and head"]["head"]
    head = Head(stated["count"], bytes.fromhex(stated["head"]))
    assert json.loads(Signer(KEY).render(head)) == stated


# ---- the page alone --------------------------------------------------------------------------------------------------


def hkdf(secret: bytes, salt: bytes, info: bytes) -> bytes:
    return HKDF(hashes.SHA256(), 32, salt, info).derive(secret)


def number(data: bytes) -> int:
    return int.from_bytes(data, "big")


def open_file(sealed: bytes, data_key: bytes, name: str) -> bytes:
    header, size = sealed[:76], number(sealed[12:16])
    assert sealed[:12] == b"SHUYUAN\0" + b"\0\1" + b"\0\1"
    cipher = AESGCM(hkdf(data_key, header[44:], b"shuyuan/1/seal\0" + header + name.encode()))
    segments = [sealed[at : at + size + 16] for at in range(76, len(sealed), size + 16)]
    content = b""
    for at, segment in enumerate(segments):
        nonce = bytes(7) + at.to_bytes(4, "big") + bytes([at == len(segments) - 1])
        content += cipher.decrypt(nonce, segment, header)
    return content


def open_lines(sealed: bytes, data_key: bytes, name: str) -> tuple[list[bytes], bytes]:
    """Content of the lines, and the head."""
    header, at, lines, tag = sealed[:76], 76, [], bytes(16)
    cipher = AESGCM(hkdf(data_key, header[44:], b"shuyuan/1/seal\0" + header + name.encode()))
    head = hashlib.sha256(header).digest()
    while at < len(sealed):
        length = number(sealed[at : at + 4])
        assert length ^ number(sealed[at + 4 : at + 8]) == 0xFFFFFFFF
        line = sealed[at + 8 : at + 8 + length]
        bound = header + (len(lines) + 1).to_bytes(8, "big") + tag
        lines.append(cipher.decrypt(line[:12], line[12:], bound))
        head = hashlib.sha256(head + sealed[at : at + 8 + length]).digest()
        tag, at = line[-16:], at + 8 + length
    return lines, head


def unwrap(vault: dict[str, Any], entry: dict[str, Any], secret: bytes) -> bytes:
    salt, kdf = bytes.fromhex(entry["salt"]), entry["kdf"]
    if kdf["name"] == "argon2id":
        cost = {"iterations": kdf["passes"], "lanes": kdf["lanes"], "memory_cost": kdf["memory_kib"]}
        wrapping = Argon2id(salt=salt, length=32, **cost).derive(secret)
    else:
        wrapping = hkdf(secret, salt, b"shuyuan/1/wrap")
    bound = {part: vault[part] for part in ("epoch", "format", "public_key", "run")}
    bound["key"] = {part: value for part, value in entry.items() if part != "wrapped"}
    text = json.dumps(bound, sort_keys=True, separators=(",", ":")).encode()
    return AESGCM(wrapping).decrypt(bytes.fromhex(entry["nonce"]), bytes.fromhex(entry["wrapped"]), text)


def check_head(folder: Path, head: bytes, count: int, data_key: bytes) -> None:
    vault = json.loads((folder / "vault.json").read_text())
    stated = json.loads((folder / "vault-1.head").read_text())
    assert (stated["count"], stated["head"], stated["public_key"]) == (count, head.hex(), vault["public_key"])
    run = bytes.fromhex(vault["run"])
    message = b"shuyuan/1/head\0" + run + (1).to_bytes(4, "big") + count.to_bytes(8, "big") + head
    Ed25519PublicKey.from_public_bytes(bytes.fromhex(vault["public_key"])).verify(
        bytes.fromhex(stated["signature"]), message
    )
    signing = Ed25519PrivateKey.from_private_bytes(hkdf(data_key, run, b"shuyuan/1/sign"))
    assert signing.sign(message).hex() == stated["signature"]


def test_a_real_run(begin: Callable[[], SealedStore], run: Run, key: str) -> None:
    content = bytes(range(256)) * 1000
    with begin() as store:
        store.write_open("recipe.toml", b"x = 1")
        store.write("data/x", content)
        store.write("data/x", content[1:])
        store.write("empty", b"")
        store.journal("metrics.jsonl").append({"n": "书"})
        with store.folder("model") as folder:
            folder.write("config.json", b"{}")
        store.remove("model/config.json")
        purpose = store.derive_key("fingerprint")
    vault = json.loads((run.path / "vault.json").read_text())
    data_key = unwrap(vault, vault["keys"][0], read_secret(key).value)
    records, head = open_lines((run.path / "vault-1.index").read_bytes(), data_key, "index")
    check_head(run.path, head, len(records), data_key)
    state: dict[str, tuple[str, str]] = {}
    for record in map(json.loads, records):
        for kind in ("put", "log", "open"):
            state |= {name: (kind, identity) for name, _, identity in record.get(kind, [])}
        for name in record.get("drop", []):
            del state[name]
    found: dict[str, Any] = {}
    for name, (kind, identity) in state.items():
        if kind == "open":
            found[name] = (run.path / name).read_bytes()
            assert hashlib.sha256(found[name]).hexdigest() == identity
            continue
        salt, run_id = bytes.fromhex(identity), bytes.fromhex(vault["run"])
        mark = hashlib.sha256(b"shuyuan/1/name\0" + run_id + salt[:16]).digest()[:16]
        folder_name = name.split("/")[0] if "/" in name else "sealed"
        sealed = (run.path / folder_name / (salt[:16] + mark).hex()).read_bytes()
        assert sealed[44:76] == salt
        found[name] = (
            open_file(sealed, data_key, name) if kind == "put" else open_lines(sealed, data_key, name)[0]
        )
    del found["vault.json"]
    assert found == {
        "recipe.toml": b"x = 1",
        "data/x": content[1:],
        "empty": b"",
        "metrics.jsonl": ['{"n": "书"}'.encode()],
    }
    secret = bytes.fromhex(json.loads(records[0])["new"]["secret"])
    assert hkdf(secret, bytes.fromhex(vault["run"]), b"shuyuan/1/purpose\0fingerprint") == purpose


def test_the_vectors_by_the_page_alone() -> None:
    """So that an implementation in another language can rely on them."""
    vault = VECTORS["vault.json"]
    entries = vault["file"]["keys"]
    assert (
        unwrap(vault["file"], entries[0], bytes.fromhex(VECTORS["key string"]["bits"])).hex()
        == vault["data_key"]
    )
    assert unwrap(vault["file"], entries[1], vault["passphrase"].encode()).hex() == vault["data_key"]
    entry = {part: value for part, value in entries[0].items() if part != "wrapped"}
    assert json.loads(vault["bound"])["key"] == entry
    for which in ("sealed file", "empty file"):
        vector = VECTORS[which]
        sealed, data_key = bytes.fromhex(vector["sealed"]), bytes.fromhex(vector["data_key"])
        assert open_file(sealed, data_key, vector["name"]).hex() == vector["content"]
        assert sealed[:76].hex() == vector["header"]
        info = b"shuyuan/1/seal\0" + sealed[:76] + vector["name"].encode()
        assert hkdf(data_key, sealed[44:76], info).hex() == vector["file_key"]
    lines, _ = open_lines(bytes.fromhex(VECTORS["journal"]["sealed"]), KEY.secret, "metrics.jsonl")
    assert [line.decode() for line in lines] == VECTORS["journal"]["lines"]
    records, head = open_lines(bytes.fromhex(VECTORS["index and head"]["sealed"]), KEY.secret, "index")
    assert [record.decode() for record in records] == [VECTORS["index and head"]["record"]]
    assert head.hex() == VECTORS["index and head"]["head"]["head"]
    purpose = VECTORS["purpose"]
    info = b"shuyuan/1/purpose\0" + purpose["purpose"].encode()
    assert hkdf(bytes.fromhex(purpose["secret"]), RUN, info).hex() == purpose["key"]
    wrapping = [
        hkdf(
            bytes.fromhex(VECTORS["key string"]["bits"]), bytes.fromhex(entries[0]["salt"]), b"shuyuan/1/wrap"
        )
    ]
    assert wrapping[0].hex() == vault["wrapping_keys"][0]
