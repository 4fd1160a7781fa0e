"""Finds what is written with digits: national ids, payment cards, phone numbers, and IBANs.

A run of digits and the marks that people put between them (`138-1234-5678`, `(08) 8747 6301`) is found once, and then read
as each kind in turn. Checksums: ISO 7064 MOD 11-2 for Chinese resident ids (GB 11643), Luhn for cards (ISO/IEC 7812-1),
MOD 97-10 for IBANs (ISO 13616). What has no checksum must have the form of its kind, or a word beside it that says so.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Set

import re2

from .phones import find_phones

NUMBER_KINDS = frozenset({"national-id", "card", "phone"})

_MARKS = r" \-.()/\x{A0}\x{2010}\x{2011}\x{2013}"
_RUN = re2.compile(rf"\(?\+?\(?[0-9](?:[{_MARKS}]{{0,3}}\+?[0-9]){{6,}}[Xx]?")

_RESIDENT = re.compile(
    r"(?<!\d)\d{6}[ -]?(?:18|19|20)\d\d(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])[ -]?\d{3}[\dXx](?!\d)"
)
_RESIDENT_WEIGHTS = [2 ** (17 - place) % 11 for place in range(17)]
_SOCIAL = re.compile(r"(?<![\d.\-])(?!000|666|9[0-46-9])\d{3}([- ]?)(?!00)\d\d\1(?!0000)\d{4}(?![\d\-])")
_SOCIAL_WORD = re2.compile(r"(?i)(?:\bSSN\b|\bITIN\b|social security|社会安全)")

_CARD_BEGINNINGS = {  # length -> how numbers of that length begin: Maestro, Visa, Diners, American Express, JCB, …
    12: re.compile(r"5[06-8]|6"),
    13: re.compile(r"4|5[06-8]|6"),
    14: re.compile(r"3[0689]|5[06-8]|6"),
    15: re.compile(r"3[47]|1800|2131|5[06-8]|6"),
    16: re.compile(r"2[2-7]|3|4|5|6|81|86|9[78]"),
    17: re.compile(r"4|5[06-8]|6"),
    18: re.compile(r"4|5[06-8]|6"),
    19: re.compile(r"3|4|5[06-8]|6|81"),
}
_DIGITS = re.compile(r"\d+")
_CARD_MARKS = {" ", "-", "\u00a0", "\u2010", "\u2011"}
_LUHN_DOUBLED = [0, 2, 4, 6, 8, 1, 3, 5, 7, 9]
_HEX = frozenset("abcdefABCDEFxX_#")

_IBAN = re2.compile(
    r"[A-Za-z]{2}[0-9]{2}(?:[A-Za-z0-9]{11,30}|(?:[ \-][A-Za-z0-9]{4}){2,7}(?:[ \-][A-Za-z0-9]{1,4})?)"
)
_IBAN_LENGTHS = {
    "AD": 24, "AE": 23, "AL": 28, "AT": 20, "AZ": 28, "BA": 20, "BE": 16, "BG": 22, "BH": 22, "BI": 27, "BR": 29, "BY": 28,
    "CH": 21, "CR": 22, "CY": 28, "CZ": 24, "DE": 22, "DJ": 27, "DK": 18, "DO": 28, "EE": 20, "EG": 29, "ES": 24, "FI": 18,
    "FK": 18, "FO": 18, "FR": 27, "GB": 22, "GE": 22, "GI": 23, "GL": 18, "GR": 27, "GT": 28, "HR": 21, "HU": 28, "IE": 22,
    "IL": 23, "IQ": 23, "IS": 26, "IT": 27, "JO": 30, "KW": 30, "KZ": 20, "LB": 28, "LC": 32, "LI": 21, "LT": 20, "LU": 20,
    "LV": 21, "LY": 25, "MC": 27, "MD": 24, "ME": 22, "MK": 19, "MN": 20, "MR": 27, "MT": 31, "MU": 30, "NI": 28, "NL": 18,
    "NO": 15, "OM": 23, "PK": 24, "PL": 28, "PS": 29, "PT": 25, "QA": 29, "RO": 24, "RS": 22, "RU": 33, "SA": 24, "SC": 31,
    "SD": 18, "SE": 24, "SI": 19, "SK": 24, "SM": 27, "SO": 23, "ST": 25, "SV": 28, "TL": 23, "TN": 24, "TR": 26, "UA": 29,
    "VA": 22, "VG": 24, "XK": 20,
}  # fmt: skip


def find_numbers(text: str, kinds: Set[str]) -> Iterator[tuple[int, int, str]]:
    """(start, end, kind) of national ids, cards and phone numbers, of the kinds asked for.

    Args:
        text: any.
        kinds: of "national-id", "card" and "phone" those that are asked for.
    """
    for found in _RUN.finditer(text):
        start, end = found.span()
        run = found[0]
        taken: list[tuple[int, int, str]] = []
        if "national-id" in kinds:
            taken += [(*span, "national-id") for span in _national_ids(run, text[max(0, start - 40) : start])]
        if "card" in kinds:
            taken += [(*span, "card") for span in _cards(run, text[start - 1 : start], text[end : end + 1])]
        if "phone" in kinds and not taken:
            taken += [(*span, "phone") for span in find_phones(run, text, start, end)]
        for first, last, kind in taken:
            yield start + first, start + last, kind


def _national_ids(run: str, before: str) -> Iterator[tuple[int, int]]:
    for found in _RESIDENT.finditer(run):
        if is_resident_id(re.sub("[ -]", "", found[0])):
            yield found.span()
    for found in _SOCIAL.finditer(run):
        # With hyphens the form says enough; with spaces or nothing between, a word must say it.
        if found[1] == "-" or _SOCIAL_WORD.search(before):
            yield found.span()


def is_resident_id(digits: str) -> bool:
    """Whether 18 characters carry the check character of a Chinese resident id.

    Reference: GB 11643-1999; the check is ISO 7064 MOD 11-2.
    """
    total = sum(weight * int(digit) for weight, digit in zip(_RESIDENT_WEIGHTS, digits, strict=False))
    return "10X98765432"[total % 11] == digits[17].upper()


def _cards(run: str, before: str, after: str) -> Iterator[tuple[int, int]]:
    """Card numbers in a run: digits in one piece, or in pieces with one space or hyphen between."""
    pieces = [found.span() for found in _DIGITS.finditer(run)]
    first = 0
    while first < len(pieces):
        end = _card_from(run, pieces, first, before, after)
        if end is None:
            first += 1
        else:
            yield pieces[first][0], pieces[end - 1][1]
            first = end


def _card_from(run: str, pieces: list[tuple[int, int]], first: int, before: str, after: str) -> int | None:
    """The piece after the longest card number that begins with piece `first`."""
    digits, last, best = "", first, None
    while last < len(pieces):
        start, end = pieces[last]
        if last > first and run[pieces[last - 1][1] : start] not in _CARD_MARKS:
            break
        if last > first and not _begins_like_a_card(pieces[first]):
            break
        digits += run[start:end]
        if len(digits) > 19:
            break
        last += 1
        if is_card(digits) and not _is_part(run, pieces[first][0], end, before, after):
            best = last
    return best


def _begins_like_a_card(piece: tuple[int, int]) -> bool:
    """Whether a piece can be the first of several: cards are written 4-4-4-4, 4-6-5 or 6-13; tables are not."""
    return 4 <= piece[1] - piece[0] <= 6


def _is_part(run: str, start: int, end: int, before: str, after: str) -> bool:
    """Whether the digits belong to something longer: a decimal fraction, a hexadecimal number, a name."""
    if start >= 2 and run[start - 1] == "." and run[start - 2].isdigit():
        return True
    if run[end : end + 1] == "." and run[end + 1 : end + 2].isdigit():
        return True
    return (start == 0 and before in _HEX) or (end == len(run) and after in _HEX)


def is_card(digits: str) -> bool:
    """Whether digits begin and end as a payment card's do: a known beginning for their length, and Luhn's check digit.

    Reference: ISO/IEC 7812-1, annex B.
    """
    beginning = _CARD_BEGINNINGS.get(len(digits))
    if beginning is None or not beginning.match(digits):
        return False
    plain = sum(map(int, digits[-1::-2]))
    return (plain + sum(_LUHN_DOUBLED[int(digit)] for digit in digits[-2::-2])) % 10 == 0


def find_ibans(text: str) -> Iterator[tuple[int, int]]:
    """International bank account numbers, in one piece or in groups of four.

    Yields:
        (start, end) of each, in characters.

    Reference: ISO 13616; the check is ISO 7064 MOD 97-10.
    """
    for found in _IBAN.finditer(text):
        start, end = found.span()
        length = _IBAN_LENGTHS.get(found[0][:2].upper())
        places = [place for place in range(start, end) if text[place].isalnum()]
        if length is None or len(places) < length:
            continue
        end = places[length - 1] + 1
        touching = text[start - 1 : start] + text[end : end + 1]
        if not any(mark.isascii() and mark.isalnum() for mark in touching) and _is_iban(text[start:end]):
            yield start, end


def _is_iban(text: str) -> bool:
    letters = re.sub("[ -]", "", text).upper()
    return int("".join(str(int(letter, 36)) for letter in letters[4:] + letters[:4])) % 97 == 1
