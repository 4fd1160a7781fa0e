"""Rules for what goes into a model and what comes out: personal data, words that are blocked, and documents that give orders.

A rule either masks (the same tags as in preparation) or refuses. What was done is counted, told to the caller, and stands in the
audit log. Every pattern runs in RE2, so that no input makes it slow.
"""

from __future__ import annotations

import tomllib
import unicodedata
from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import re2
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ..data.masking import Masker, Span
from ..errors import ServeError
from ..recipe import PERSONAL_DATA

Action = Literal["off", "mask", "refuse"]
HELD = 256  # characters of an answer that wait for what follows: a longer thing than that is not found across pieces
PASSES = 8
LONGEST_WORD = 200
INVISIBLE = re2.compile(
    r"[\x{00AD}\x{200B}-\x{200F}\x{202A}-\x{202E}\x{2060}-\x{2064}\x{FEFF}\x{E0000}-\x{E007F}]"
)
# How texts address a model instead of whoever reads them, in English and Chinese. A heuristic: it finds the clumsy ones.
_ORDERS = (
    r"(?i)\b(?:ignore|disregard|forget|override)\b.{0,40}\b(?:previous|prior|above|earlier|all|your)\b.{0,40}\b(?:instructions?|prompts?|rules?|messages?|context)\b",
    r"(?i)\b(?:system prompt|developer mode|jailbreak|do anything now)\b",
    r"(?i)\byou (?:are|must) now\b.{0,40}\b(?:act|assistant|model|ai|pretend|respond)\b",
    r"(?i)\b(?:reveal|repeat|print|output)\b.{0,30}\b(?:your|the)\b.{0,30}\b(?:instructions?|system|prompt)\b",
    r"(?i)<\|?(?:im_start|im_end|system|assistant|endoftext)\|?>|\[/?INST\]",
    r"(?:忽略|无视|忘记).{0,12}(?:之前|以上|上面|先前|所有).{0,12}(?:指令|提示|规则|内容)",
    r"(?:系统提示词|你现在是|越狱模式)",
)
_ORDER = re2.compile("|".join(f"(?:{each})" for each in _ORDERS))


class Side(BaseModel):
    """Rules of one direction.

    Attributes:
        personal: what is done with personal data.
        kinds: which; as in `data.mask`.
        block: words that are refused wherever they stand, in any case.
        patterns: more that is personal: name to RE2 expression.
    """

    model_config = ConfigDict(extra="forbid")
    personal: Action = "off"
    kinds: list[str] = Field(default_factory=lambda: list(PERSONAL_DATA))
    block: list[Annotated[str, Field(min_length=1, max_length=LONGEST_WORD)]] = Field(default_factory=list)
    patterns: dict[str, str] = Field(default_factory=dict)


class Judge(BaseModel):
    """A classifier that is asked about every input and every whole answer.

    Attributes:
        model: its name, one of those that are served.
        label: what is refused.
        threshold: from which probability on.
    """

    model_config = ConfigDict(extra="forbid")
    model: str
    label: str
    threshold: float = Field(0.5, gt=0, le=1)


class Rules(BaseModel):
    """The guard's file.

    Attributes:
        injection: what is done with a context that gives orders: "mark" tells the caller, "refuse" does not answer.
    """

    model_config = ConfigDict(extra="forbid")
    input: Side = Field(default_factory=Side)
    output: Side = Field(default_factory=Side)
    judge: Judge | None = None
    injection: Literal["off", "mark", "refuse"] = "off"


@dataclass
class _Filter:
    """Rules of one direction, ready to be used."""

    masker: Masker | None
    blocked: Any
    action: Action


@dataclass
class Guard:
    """The rules of a server.

    Args:
        rules: as the file has them.
    """

    rules: Rules = field(default_factory=Rules)

    def __post_init__(self) -> None:
        self._input = _filter(self.rules.input)
        self._output = _filter(self.rules.output)

    @property
    def guards_input(self) -> bool:
        """Whether inputs are looked at, so that they must be text."""
        return (
            self._input.masker is not None or self._input.blocked is not None or self.rules.judge is not None
        )

    @property
    def guards_output(self) -> bool:
        """Whether answers are looked at, so that their tokens may not be told."""
        return (
            self._output.masker is not None
            or self._output.blocked is not None
            or self.rules.judge is not None
        )

    def take(self, text: str, done: Counter[str]) -> str:
        """An input as the model may see it.

        Args:
            text: what was sent.
            done: counts what was done.

        Raises:
            ServeError: a rule refuses it.
        """
        rules = self._input
        if rules.blocked is not None and any(rules.blocked.search(each) for each in (text, _plain(text))):
            raise _refused(done, "input.blocked")
        if rules.masker is None:
            return text
        masked = rules.masker(text)
        if masked != text:
            if rules.action == "refuse":
                raise _refused(done, "input.personal")
            done["input.masked"] += 1
        return masked

    def look(self, context: str, done: Counter[str]) -> None:
        """Looks whether a document gives orders.

        Raises:
            ServeError: it does, and the rules refuse that.
        """
        if self.rules.injection == "off":
            return
        if INVISIBLE.search(context) or _ORDER.search(_plain(context)):
            if self.rules.injection == "refuse":
                raise _refused(done, "context.orders")
            done["context.orders"] += 1

    def answer(self, done: Counter[str]) -> Held:
        """What an answer goes through."""
        return Held(self._output, done)


class Held:
    """An answer on its way out. Its end is held back until it is sure that nothing begins there.

    Args:
        rules: of outputs.
        done: counts what was done.

    Attributes:
        cut: whether the answer was ended by a rule.
    """

    def __init__(self, rules: _Filter, done: Counter[str]) -> None:
        self._rules = rules
        self._done = done
        self._before = ""  # the end of what went out: a word there may say what a number is
        self._text = ""
        self.cut = False

    def add(self, text: str, *, last: bool = False) -> str:
        """What may go out now that `text` has come."""
        rules = self._rules
        if self.cut or (rules.masker is None and rules.blocked is None):
            return "" if self.cut else text
        self._text += text
        if rules.blocked is not None and (place := _place(rules.blocked, self._text)) is not None:
            return self._end("output.blocked", place)
        if rules.action == "refuse" and (spans := self._spans()):
            return self._end("output.personal", spans[0].start)
        return self._give(last)

    def _give(self, last: bool) -> str:
        """The text up to where nothing can change any more."""
        held = 0 if last else HELD
        for _ in range(PASSES):  # a tag may free what stood beside it, so look again until all is still
            spans = self._spans()
            if not self._replace([span for span in spans if span.end <= len(self._text) - held]):
                break
        end = max(0, len(self._text) - held)
        end = min([end, *(span.start for span in spans if not last and span.end >= end)])
        given, self._text = self._text[:end], self._text[end:]
        self._before = (self._before + given)[-HELD:]
        return given

    def _spans(self) -> list[Span]:
        """Personal data in what is held, by its places there."""
        if self._rules.masker is None:
            return []
        known = len(self._before)
        found = self._rules.masker.find(self._before + self._text)
        return [Span(max(0, start - known), end - known, kind) for start, end, kind in found if end > known]

    def _replace(self, spans: Sequence[Span]) -> bool:
        for span in reversed(spans):
            self._text = f"{self._text[: span.start]}[{span.kind}]{self._text[span.end :]}"
            self._done["output.masked"] += 1
        return bool(spans)

    def _end(self, why: str, at: int) -> str:
        """All before what a rule refuses; nothing comes after it."""
        self._done[why] += 1
        self._text = self._text[:at]
        given = self._give(last=True)
        self.cut = True
        return given


def load_guard(file: Path | None) -> Guard:
    """The guard that a file describes.

    Args:
        file: TOML; None: a guard that does nothing.

    Raises:
        ServeError: it is not as it should be.
    """
    if file is None:
        return Guard()
    try:
        return Guard(Rules(**tomllib.loads(file.read_text(encoding="utf-8"))))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, ValidationError, TypeError) as error:
        reason = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error)
        place = ".".join(map(str, error.errors()[0]["loc"])) if isinstance(error, ValidationError) else None
        raise ServeError(
            "serve.bad-guard",
            f"The guard's rules cannot be used ({f'{place}: ' if place else ''}{reason}).",
            where=str(file),
            mend="docs/serving.md shows what they hold.",
        ) from None


def told(done: Mapping[str, int]) -> dict[str, str]:
    """What the guard did, as a header of the response.

    Args:
        done: what to how often.

    Returns:
        {"X-Shuyuan-Guard": "email=2, …"}; {} where it did nothing.
    """
    shown = ", ".join(f"{name}={count}" for name, count in sorted(done.items()) if count)
    return {"X-Shuyuan-Guard": shown} if shown else {}


def _filter(side: Side) -> _Filter:
    unknown = [kind for kind in side.kinds if kind not in PERSONAL_DATA]
    if unknown:
        raise ServeError(
            "serve.unknown-kind",
            f"`{unknown[0][:40]}` is no kind of personal data.",
            mend=f"Name some of: {', '.join(PERSONAL_DATA)}.",
        )
    masker = None if side.personal == "off" else Masker(side.kinds, side.patterns)
    return _Filter(masker, _blocked(side.block), side.personal)


def _blocked(words: Sequence[str]) -> Any:
    if not words:
        return None
    return re2.compile("(?i)" + "|".join(re2.escape(_plain(word)) for word in words))


def _plain(text: str) -> str:
    """A text without what nobody sees, in the common form of its characters: full width as half, ligatures apart."""
    plain: str = INVISIBLE.sub("", unicodedata.normalize("NFKC", text))
    return plain


def _place(blocked: Any, text: str) -> int | None:
    """Where the first blocked word begins, however it is written."""
    if not blocked.search(_plain(text)):
        return None
    end = bisect_left(range(len(text)), True, key=lambda end: bool(blocked.search(_plain(text[:end]))))
    start = bisect_left(range(end), True, key=lambda start: not blocked.search(_plain(text[start:end])))
    return start - 1


def _refused(done: Counter[str], why: str) -> ServeError:
    done[why] += 1
    return refused(why)


def refused(why: str) -> ServeError:
    """The refusal of an input or an answer by a rule."""
    return ServeError(
        "serve.guarded",
        f"A rule of this server refuses this ({why}).",
        headers={"X-Shuyuan-Guard": f"{why}=1"},
        mend="Leave out what it is about, or ask whoever runs the server.",
    )
