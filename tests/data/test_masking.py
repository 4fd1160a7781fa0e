"""Personal data goes, by form and checksum; everything else stays; and masking again changes nothing."""

from __future__ import annotations

import builtins
import itertools
import json
import re
import sys
import time
import types
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shuyuan.data.masking import Masker
from shuyuan.data.masking.numbers import find_ibans, is_card, is_resident_id
from shuyuan.errors import DataError, MachineError
from shuyuan.recipe import PERSONAL_DATA

EVERYTHING = Masker(PERSONAL_DATA, {})

# Made-up data throughout: documented example numbers, reserved domains, computed check digits.
MASKED = [
    ("email", "write to li.wei+news@example.com, please", "write to [email], please"),
    ("email", "邮箱li@example.cn谢谢", "邮箱[email]谢谢"),
    ("email", "全角ｌｉ＠ｅｘａｍｐｌｅ．ｃｏｍ也算", "全角[email]也算"),
    ("email", "<jürgen@müller-example.de>", "<[email]>"),
    ("phone", "电话13812345678，谢谢", "电话[phone]，谢谢"),
    ("phone", "请拨打138-1234-5678或139 1234 5678", "请拨打[phone]或[phone]"),
    ("phone", "手机：+86 138 1234 5678。", "手机：[phone]。"),
    ("phone", "13812345678 13912345678", "[phone] [phone]"),
    ("phone", "手机１３８１２３４５６７８", "手机[phone]"),
    ("phone", "（13812345678李先生）", "（[phone]李先生）"),
    ("phone", "座机0311-86911999，010-12345678转8001", "座机[phone]，[phone]"),
    ("phone", "(010) 12345678", "[phone]"),
    ("phone", "热线400-820-6666", "热线[phone]"),
    ("phone", "call (212) 555-0100 now", "call [phone] now"),
    ("phone", "+1-212-555-0100x123 or 212.555.0100", "[phone] or [phone]"),
    ("phone", "001-212-555-0100", "[phone]"),
    ("phone", "+44 20 7946 0958, 020 7946 0958, 07700 900123", "[phone], [phone], [phone]"),
    ("phone", "+49 (0)30 901820", "[phone]"),
    ("phone", "01.84.17.61.18", "[phone]"),
    ("phone", "(11) 91234-5678; 8 (495) 123-45-67; 030/12345678; 0612345678", "[phone]; [phone]; [phone]; [phone]"),
    ("phone", "Phone:\n555 0100", "Phone:\n[phone]"),
    ("phone", "tel13812345678", "tel[phone]"),
    ("national-id", "身份证11010519491231002X，", "身份证[national-id]，"),
    ("national-id", "号码110105194912310 02x".replace(" ", ""), "号码[national-id]"),
    ("national-id", "SSN 123-45-6789.", "SSN [national-id]."),
    ("national-id", "his social security number is 123 45 6789", "his social security number is [national-id]"),
    ("card", "card 4111 1111 1111 1111, exp 10/30", "card [card], exp 10/30"),
    ("card", "卡号4111111111111111。", "卡号[card]。"),
    ("card", "3782-822463-10005", "[card]"),
    ("card", "银联6212345678901265", "银联[card]"),
    ("iban", "IBAN GB82 WEST 1234 5698 7654 32 please", "IBAN [iban] please"),
    ("iban", "de89370400440532013000,", "[iban],"),
    ("ip", "from 192.0.2.17:8080 to 2001:db8::8a2e:370:7334.", "from [ip]:8080 to [ip]."),
    ("ip", "::ffff:192.0.2.128 and http://[2001:db8::1]:80/", "[ip] and http://[[ip]]:80/"),
    ("ip", "地址192.0.2.1，", "地址[ip]，"),
    ("ip", "203.0.113.255 and 255.255.255.255", "[ip] and [ip]"),
    ("url-credentials", "https://user:p@ss@example.com/x", "https://[url-credentials]@example.com/x"),
    ("url-credentials", "https://ghp0123456789abcdef@example.com", "https://[url-credentials]@example.com"),
    ("url-credentials", "http://example.com/a?x=1&api_key=abc123&y=2", "http://example.com/a?x=1&api_key=[url-credentials]&y=2"),
]  # fmt: skip

LEFT = [
    "on 2021-03-04 at 12:30:45, or 04/03/2021, or 20210304123045",
    "version 1.2.3.4 and v10.0.0.1 and section 1.2.3.4.5",
    "256.0.2.1, 192.256.2.1 and 192.0.2.256 are none",
    "3.141592653589793 and 0.4111111111111111",
    "ids 4111111111111112 and 110105194912310021 fail their checksums",
    "GB82WEST12345698765433 fails too",
    "std::abs, a::b, x[1::2], 12:30:45, 00:1B:44:11:3A:B7",
    "call 0x00100000 or bd1a-00112444be1e, text b4280703 or \\u2013150, phone _5551234567",
    "image@2x.png, @decorator, user@localhost",
    "sha256 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    "uuid a8098c1a-f86e-11da-bd1a-00112444be1e and 0x00100000 and \\u2013150",
    "population 1 234 567 890, price 1,234,567.89, order number 12345678",
    "0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20",
    "Copyright 1999-2008, ISBN 978-3-16-148410-0, zip 12345-6789",
    "git@host:path, https://git@example.com/repo, http://example.com/a?x=1",
    "第1234567号，二〇二一年，共12345678元",
    "x = [1024, 2048, 4096, 8192, 16384, 32768]",
    "SSN-like 000-12-3456 and 666-12-3456 and 123-00-4567",
]


@pytest.mark.parametrize(("kind", "text", "masked"), MASKED)
def test_masked(kind: str, text: str, masked: str) -> None:
    assert Masker([kind], {})(text) == masked
    assert EVERYTHING(text) == masked


SECRET_PARAMETERS = [
    "access_token", "accesstoken", "api_key", "apikey", "auth", "auth_token", "client_secret", "passwd", "password", "private_token",
    "pwd", "secret", "sig", "signature", "token",
]  # fmt: skip


@pytest.mark.parametrize("name", SECRET_PARAMETERS)
def test_a_secret_in_an_address_is_masked_under_each_of_its_names(name: str) -> None:
    for before in ("?", "?x=1&", "?x=1;"):
        address = f"https://example.com/a{before}{name.upper()}="
        assert EVERYTHING(f"{address}abc123&y=2") == f"{address}[url-credentials]&y=2"


@pytest.mark.parametrize("text", LEFT)
def test_left_alone(text: str) -> None:
    assert Masker([kind for kind in PERSONAL_DATA if kind != "email" or "git@" not in text], {})(text) == text


def test_only_the_kinds_asked_for_and_all_counted() -> None:
    masker = Masker(["phone"], {})
    assert masker("13812345678, a@example.com, 13912345678") == "[phone], a@example.com, [phone]"
    assert masker("none") == "none"
    assert masker.counts == {"phone": 2}
    assert Masker([], {})("13812345678") == "13812345678"


def test_own_patterns_come_first() -> None:
    masker = Masker(
        ["card", "email"], {"case": r"CASE-\d+", "order": r"\b4\d{15}\b", "word": "email|nothing*"}
    )
    assert masker("CASE-17 4111111111111111 a@example.com nothin") == "[case] [order] [email] [word]"
    assert masker("[email] [case]") == "[email] [case]"


def test_a_pattern_that_re2_does_not_know_is_refused() -> None:
    with pytest.raises(DataError, match=r"data\.bad-pattern") as caught:
        Masker([], {"back": r"(a)\1"})
    assert "`back`" in caught.value.what


def test_time_grows_with_length_alone() -> None:
    masker = Masker(PERSONAL_DATA, {"own": "(a+)+$"})
    for piece in (
        "a",
        "1-",
        "1 ",
        "a@a.",
        "1.",
        "f:",
        "4111 ",
        "https://",
        "+86",
        "GB82 ",
        "(0)",
        "a@b.io, ",
        "13812345678 ",
        "[email]",
    ):
        begin = time.process_time()
        masker(piece * (200_000 // len(piece)))
        assert time.process_time() - begin < 5, piece


# ---- laws ----------------------------------------------------------------------------------------------------------


def with_luhn(digits: str) -> str:
    return next(digits + check for check in "0123456789" if is_card(digits + check))


def with_check(digits: str) -> str:
    return next(digits + check for check in "0123456789X" if is_resident_id(digits + check))


cards = st.from_regex("4[0-9]{14}", fullmatch=True).map(with_luhn)
residents = st.from_regex(
    "[1-6][0-9]{5}(19|20)[0-9]{2}(0[1-9]|1[0-2])(0[1-9]|1[0-9]|2[0-8])[0-9]{3}", fullmatch=True
).map(with_check)
around = st.text(st.sampled_from("书 ,。:\n(（x-Z"), max_size=4)


@given(cards, st.sampled_from(["", " ", "-"]), around, around)
def test_no_valid_card_is_left(card: str, mark: str, before: str, after: str) -> None:
    written = mark.join(card[at : at + 4] for at in range(0, 16, 4))
    masked = Masker(["card"], {})(f"{before.replace('x', '')}{written}{after.replace('x', '')}")
    assert not re.search("[0-9]", masked)


@given(residents, around, around)
def test_no_valid_resident_id_is_left(number: str, before: str, after: str) -> None:
    assert not re.search("[0-9]", Masker(["national-id"], {})(before + number + after))


pieces = st.sampled_from(
    ["13812345678", "4111111111111111", "11010519491231002X", "a@example.com", "192.0.2.1", "GB82WEST12345698765432", "call",
     "电话", "[email]", "[phone]", "https://u:p@", "+86 ", "-", " ", ".", ":", "@", "1", "123-45-6789", "x", "(", ")"]
)  # fmt: skip


@given(st.lists(pieces, max_size=12).map("".join))
def test_masking_again_changes_nothing(text: str) -> None:
    masked = EVERYTHING(text)
    assert EVERYTHING(masked) == masked


@given(st.text(max_size=200))
def test_spans_are_in_order_and_apart(text: str) -> None:
    spans = EVERYTHING.find(text)
    assert all(one.end <= other.start for one, other in itertools.pairwise(spans))
    assert all(0 <= span.start < span.end <= len(text) for span in spans)


# ---- the figures that the documentation states ---------------------------------------------------------------------


def test_precision_and_recall_on_public_data(shared_data: Path) -> None:
    sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
    try:
        import masking
    finally:
        sys.path.pop(0)
    table = masking.measure(shared_data / "privacy/presidio_synthetic_pii.json")
    for kind, row in table.items():
        assert row["precision"] >= 0.97, kind
        assert row["recall"] >= 0.95, kind


def test_poems_and_plays_hold_no_numbers(shared_data: Path) -> None:
    for name in ("text/tinyshakespeare.txt", "text/zh_song_ci.txt"):
        assert EVERYTHING.find((shared_data / name).read_text(encoding="utf-8")) == []


# ---- names ---------------------------------------------------------------------------------------------------------


def fake_presidio(monkeypatch: pytest.MonkeyPatch, *, model: bool) -> None:
    found = types.SimpleNamespace(start=5, end=8, entity_type="PERSON")
    presidio: Any = types.ModuleType("presidio_analyzer")
    presidio.AnalyzerEngine = lambda: types.SimpleNamespace(
        analyze=lambda text, entities, language: [found] if text[5:8] == "Ann" else []
    )
    spacy: Any = types.ModuleType("spacy")
    spacy.util = types.SimpleNamespace(is_package=lambda name: model)
    monkeypatch.setitem(sys.modules, "presidio_analyzer", presidio)
    monkeypatch.setitem(sys.modules, "spacy", spacy)


def test_names_are_left_to_presidio(monkeypatch: pytest.MonkeyPatch) -> None:
    fake_presidio(monkeypatch, model=True)
    assert Masker(["email"], {}, names=True)("Dear Ann, a@example.com") == "Dear [name], [email]"


def test_presidio_downloads_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    fake_presidio(monkeypatch, model=False)
    with pytest.raises(MachineError, match=r"machine\.missing-model"):
        Masker([], {}, names=True)
    real = builtins.__import__

    def absent(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "presidio_analyzer":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", absent)
    with pytest.raises(MachineError, match="shuyuan\\[presidio\\]"):
        Masker([], {}, names=True)


def test_the_benchmark_labels_only_what_is_claimed(shared_data: Path) -> None:
    data = json.loads((shared_data / "privacy/presidio_synthetic_pii.json").read_text(encoding="utf-8"))
    assert {span["entity_type"] for record in data for span in record["spans"]} >= {
        "PHONE_NUMBER",
        "CREDIT_CARD",
    }


def test_of_all_check_digits_one_is_right() -> None:
    assert [is_card(f"411111111111111{last}") for last in range(10)].count(True) == 1
    assert [is_resident_id(f"11010519491231002{last}") for last in "0123456789Xx"].count(True) == 2  # x is X
    texts = [f"DE{check:02}370400440532013000" for check in range(100)]
    assert [text for text in texts if list(find_ibans(text))] == ["DE89370400440532013000"]
