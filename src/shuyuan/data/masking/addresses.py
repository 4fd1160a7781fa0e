"""Finds what is written with letters: email addresses, IP addresses, credentials in a URL."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator

import re2

# Letters of the Latin alphabets beyond ASCII occur in addresses; Chinese ones do not, so that 邮箱li@example.cn谢谢 is cut
# where a reader would cut it.
_LATIN = "A-Za-z0-9\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u024f"
_EMAIL = re2.compile(
    rf"[{_LATIN}][{_LATIN}._%+'\-]*@(?:[{_LATIN}](?:[{_LATIN}\-]*[{_LATIN}])?\.)+(?:xn--[A-Za-z0-9\-]+|[A-Za-z]{{2,24}})"
)
_NOT_DOMAINS = (".png", ".jpg", ".jpeg", ".gif", ".svg", ".webp")  # image@2x.png

_IPV4 = re2.compile(r"[0-9]{1,3}(?:\.[0-9]{1,3}){3,}")
_IPV6 = re2.compile(r"[0-9A-Fa-f]{0,4}(?::[0-9A-Fa-f]{0,4}){2,}(?:\.[0-9]{1,3}){0,3}")
_VERSION = re2.compile(r"(?i)(?:\bv|version|release|build|版本)[ :=]{0,3}$")

_USER_INFO = re2.compile(r"[A-Za-z][A-Za-z0-9+.\-]*://([^\s/?#\"'<>]+)@[^\s/?#\"'<>@]")
_SECRET_PARAMETER = re2.compile(
    r"(?i)[?&;](?:access_?token|api_?key|auth|auth_?token|client_?secret|passwd|password|private_?token|pwd|secret|sig|"
    r"signature|token)=([^\s&;#\"'<>]+)"
)
_TOKEN_CHARS = 16  # a user name alone is a credential when it is as long as a token; `git` is none


def find_emails(text: str) -> Iterator[tuple[int, int]]:
    """Email addresses.

    Yields:
        (start, end) of each, in characters.
    """
    if "@" not in text:
        return
    for found in _EMAIL.finditer(text):
        if not found[0].lower().endswith(_NOT_DOMAINS):
            yield found.span()


def find_url_credentials(text: str) -> Iterator[tuple[int, int]]:
    """`user:password` before the host of a URL, and the values of parameters such as `access_token`.

    Yields:
        (start, end) of each, in characters.
    """
    if "://" not in text:
        return
    for found in _USER_INFO.finditer(text):
        if ":" in found[1] or len(found[1]) >= _TOKEN_CHARS:
            yield found.span(1)
    for found in _SECRET_PARAMETER.finditer(text):
        yield found.span(1)


def find_ips(text: str) -> Iterator[tuple[int, int]]:
    """IPv6 and IPv4 addresses (the latter may be part of the former); not version numbers, times, or slices of a program.

    Yields:
        (start, end) of each, in characters.
    """
    for found in _IPV6.finditer(text):
        start, end = found.span()
        while end > start and text[end - 1] == ":" and text[end - 2 : end] != "::":
            end -= 1
        while end - start > 1 and text[start] == ":" and text[start : start + 2] != "::":
            start += 1
        if _stands_alone(text, start, end) and _is_ipv6(text[start:end]):
            yield start, end
    for found in _IPV4.finditer(text):
        start, end = found.span()
        parts = found[0].split(".")
        if len(parts) == 4 and all(int(part) < 256 for part in parts) and _stands_alone(text, start, end):
            yield start, end


def _stands_alone(text: str, start: int, end: int) -> bool:
    """Whether no letter, digit or point goes on from the address, and no word says that it is a version."""
    before, after = text[start - 1 : start], text[end : end + 1]
    if _goes_on(before) or _goes_on(after) or before == ".":
        return False
    if after == "." and text[end + 1 : end + 2].isdecimal():
        return False
    return not _VERSION.search(text[max(0, start - 12) : start])


def _goes_on(character: str) -> bool:
    return character == "_" or (character.isascii() and character.isalnum())


def _is_ipv6(text: str) -> bool:
    # `a::b` and `1::2` are far more often a scope or a slice than an address.
    groups = [group for group in text.split(":") if group]
    if len(groups) < 4 and not any(len(group) >= 3 for group in groups):
        return False
    try:
        ipaddress.IPv6Address(text)
    except ValueError:
        return False
    return True
