"""Reads a run of digits as a phone number.

Three degrees of evidence: a form that only phones have (a plus sign, a Chinese mobile number, an area code in brackets);
a grouping that phones have when the run stands alone; any grouping beside a word such as `call` or 电话.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import re2

_SEP = r"[ \-./\u00a0\u2010\u2011\u2013]"
_GAP = rf"(?:{_SEP}?\(|\)?{_SEP}?)"  # between two pieces: at most one mark, and brackets

# Forms that need no further evidence, anywhere in a run.
_SURE = re.compile(
    "|".join(
        [
            rf"(?:\+|(?<![\d./\\-])00)86\)?{_SEP}?1[3-9]\d{_SEP}?\d{{4}}{_SEP}?\d{{4}}(?!\d)",
            rf"\(?(?:\+|(?<![\d./\\-])00)1\)?{_GAP}\d{{3}}{_GAP}\d{{3}}{_GAP}\d{{4}}(?!\d)",
            rf"\(?(?:\+\(?|(?<![\d./\\-])00)[1-9]\d{{0,2}}(?:{_GAP}\d{{1,12}}){{1,6}}(?!\d)",
            rf"(?<![\d.])(?:86{_SEP}?)?1[3-9]\d{_SEP}?\d{{4}}{_SEP}?\d{{4}}(?![\d]|\.\d)",
            rf"(?<!\d)\(0\d{{2,3}}\){_SEP}?\d{{7,8}}(?:-\d{{1,6}})?(?!\d)",
            r"(?<![\d.\-/])0\d{2,3}[ -]\d{7,8}(?:-\d{1,6})?(?!\d)",
            rf"(?<!\d)(?:1{_SEP}?)?\([2-9]\d\d\){_SEP}?\d{{3}}{_SEP}?\d{{4}}(?!\d)",
            r"(?<![\d.\-])(?:1([-.]))?[2-9]\d\d([-.])\d{3}\2\d{4}(?![\d\-]|\.\d)",
            r"(?<![\d.\-])[48]00[ -]?\d{3}[ -]\d{4}(?![\d\-])",
        ]
    )
)
# Groupings of phones, believed when nothing else stands in the run.
_GROUPED = re.compile(
    "|".join(
        [
            rf"\(?0[1-9]\d{{0,3}}\)?{_SEP}?\d{{2,4}}(?:{_SEP}\d{{2,4}}){{1,3}}",  # 0490 75 40 81, 020 7946 0958
            rf"0[1-9]\d{{1,3}}{_SEP}\d{{5,8}}",  # 07700 900123, 030/12345678
            r"0[67]\d{8}|07\d{9}",  # 0612345678, 07700900123
            rf"\(\d{{1,4}}\){_SEP}?\d{{3,5}}{_SEP}?\d{{3,4}}",  # (71) 4233-6306, (11) 91234-5678
            rf"(?:[78]{_SEP}?)?\(\d{{3}}\){_SEP}?\d{{3}}-\d\d-\d\d",  # 8 (495) 123-45-67
            r"[1-9]\d(?:-\d\d){3,4}|[1-9]\d(?:\.\d\d){4}",  # 71-33-52-22
            r"[2-9]\d\d \d{3} \d{4}",  # 212 555 0100
        ]
    )
)
_DATE = re.compile(
    r"(?<![\d.\-/])(?:(?:19|20)\d\d([-/. ])\d\d?\1\d\d?|\d\d?([-/.])\d\d?\2(?:19|20)?\d\d)(?!\d|[-/.]\d)"
)
_EXTENSION = re.compile(r"\s?(?:x|ext\.?|extension|转|分机)\s?\d{1,6}(?!\d)", re.IGNORECASE)
_WORD_BEFORE = re2.compile(
    r"(?i)(?:\b(?:tele)?phones?\b|\btel\b|\bmobile\b|\bcell(?:phone)?\b|\bcall(?:s|ed|ing)?\b|\bcontact\b|\bdial\b|\bfax\b"
    r"|\banswer(?:s|ed|ing)?\b|\bmessages?\b|\b(?:desk|direct|home|office|work)[ \t]?:|\bhotline\b|\blandline\b|\breach\b|\bring\b|\bsms\b|\btext(?:ed)?\b|\bwhatsapp\b|\b(?:my|his|her|your|our|their) number\b"
    r"|\btelefon\w*|\bt[ée]l[ée]phone\b|\btel[ée]fono\b|\bhandy\b|电话|電話|手机|手機|致电|拨打|热线|传真|座机|联系|聯繫|微信)"
)
_WORD_AFTER = re2.compile(
    r"(?i)^(?:[ \t]?[-–(,][ \t]?|[ \t])(?:cell|desk|fax|home|mobile|office|phone|tel|work)\b"
    r"|^[^\n.]{0,12}(?:\b(?:my|his|her|your|our|their) (?:phone|number|mobile|cell)\b|是.{0,4}电话)"
)
_OTHER_NUMBER = re2.compile(
    r"(?i)(?:\b(?:account|acct|amount|box|case|code|id|invoice|isbn|licen[cs]e|order|passport|policy|price|ref|reference|serial"
    r"|ticket|tracking|version|zip|postcode)\b[^\w\n]{0,3}(?:(?:no|number|num|is)\b)?[^\w\n]{0,3}|[$€£¥#=]\s?|编号|单号|账号|邮编|金额)$"
)
_YEARS = re.compile(r"(?:1\d|20)\d\d[-–/.](?:1\d|20)\d\d")
_FRACTION = re.compile(r"^[+(]*\d+\.\d{1,2}$")
_NAME_BEFORE = re.compile(r"[A-Za-z0-9_\\#-]*[A-Za-z_#]$")
_NAME_AFTER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_HEX = frozenset("abcdefABCDEF")
_DIGIT = re.compile(r"\d")


def find_phones(run: str, text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    """Phone numbers in a run of digits and marks.

    Args:
        run: the run, `text[start:end]`.
        text: what it stands in, for the words beside it.
        start, end: of the run in the text, in characters.

    Yields:
        (start, end) within the run; the end may lie behind it, after an extension.
    """
    if run[-1] in "Xx":  # the check character of a resident id, or here the x before an extension
        run, end = run[:-1], end - 1
    if _is_inside_a_name(text, start, end):
        return
    sure = [found for found in _SURE.finditer(run) if _counts(found[0])]
    for found in sure:
        last = found.end()
        yield found.start(), last + (_extension(text, end) if last == len(run) else 0)
    if not sure and _is_phone_alone(run, text, start, end):
        yield 0, len(run) + _extension(text, end)


def _is_inside_a_name(text: str, start: int, end: int) -> bool:
    """Whether letters touch the run in a way that makes it part of an identifier or a hexadecimal number.

    `tel13812345678` and `08704439680Ts` are a word and a number; `0x00100000`, `bd1a-00112444be1e` and `b4280703` are one.
    """
    before = _NAME_BEFORE.search(text[max(0, start - 24) : start])
    after = None if _EXTENSION.match(text, end) else _NAME_AFTER.match(text, end, end + 24)
    return bool(before and _is_code(before[0])) or bool(after and _is_code(after[0]))


def _is_code(letters: str) -> bool:
    return len(letters) == 1 or not letters.isalpha() or _HEX.issuperset(letters)


def _counts(text: str) -> bool:
    """Whether a form that needs no further evidence has as many digits as a phone number."""
    digits = len(_DIGIT.findall(text))
    if "+" in text:
        return 9 <= digits <= 15 and not _FRACTION.search(text)
    if text.lstrip("(").startswith("00"):
        return 11 <= digits <= 17
    return 7 <= digits <= 13


def _is_phone_alone(run: str, text: str, start: int, end: int) -> bool:
    digits = len(_DIGIT.findall(run))
    if not 7 <= digits <= 12 or _DATE.search(run) or _YEARS.fullmatch(run):
        return False
    if digits >= 8 and _GROUPED.fullmatch(run):
        return not _OTHER_NUMBER.search(text[max(0, start - 24) : start])
    if re.search(r"\d\.\d", run) and run.count(".") < 2:  # a decimal number
        return False
    before = _beside(text[max(0, start - 48) : start])
    if _OTHER_NUMBER.search(before):
        return False
    return bool(_WORD_BEFORE.search(before) or _WORD_AFTER.search(text[end : end + 32]))


def _beside(before: str) -> str:
    """What stands before a run on its line, or the line above where the run begins its own (a form's label)."""
    *above, line = before.split("\n")
    if not line.strip():
        line = next((label for label in reversed(above) if label.strip()), "")
    return line


def _extension(text: str, end: int) -> int:
    found = _EXTENSION.match(text, end)
    return found.end() - end if found else 0
