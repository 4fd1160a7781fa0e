"""Text arrives in whole characters, and nothing is lost or doubled."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from shuyuan.data import byte_tokenizer, learn_bpe
from shuyuan.inference.stream import TextStream

BYTES = byte_tokenizer()
PIECES = learn_bpe(["书院藏书，书院读书。", "the cat and the hat 🙂🙂", "naïve é"] * 50, 290)


def pieces(tokenizer: object, tokens: list[int], before: list[int]) -> list[str]:
    stream = TextStream(tokenizer, before)  # type: ignore[arg-type]
    return [stream.add(token) for token in tokens]


@given(st.text(), st.text())
@settings(deadline=None)
def test_any_text_comes_through(before: str, text: str) -> None:
    for tokenizer in (BYTES, PIECES):
        given_pieces = pieces(tokenizer, tokenizer.encode(text), tokenizer.encode(before))
        waiting = "\ufffd" if text.endswith("\ufffd") else ""  # may be the start of another character
        assert "".join(given_pieces) == text.removesuffix(waiting)


@given(st.lists(st.integers(0, 255), max_size=40), st.text(max_size=5))
@settings(deadline=None, max_examples=300)
def test_any_bytes_come_through(tokens: list[int], before: str) -> None:
    """A model may produce bytes that are no text; what is sent is what decoding them at once gives."""
    sent = "".join(pieces(BYTES, tokens, BYTES.encode(before)))
    assert sent == BYTES.decode(tokens) or sent + "\ufffd" == BYTES.decode(tokens)


@given(st.text(alphabet="aé书🙂", min_size=1, max_size=20))
@settings(deadline=None)
def test_no_half_character_is_sent(text: str) -> None:
    sent = pieces(BYTES, BYTES.encode(text), [])
    assert [piece for piece in sent if piece] == list(text)


def test_a_character_that_is_never_finished_is_not_sent() -> None:
    assert pieces(BYTES, BYTES.encode("a书")[:-1], []) == ["a", "", ""]


def test_long_runs_of_broken_bytes_stay_cheap() -> None:
    """What waits is bounded: broken bytes are sent one token later, and no more than a few tokens are kept."""
    stream = TextStream(BYTES, [])
    sent = "".join(stream.add(0xFF) for _ in range(500))
    assert len(sent) == 499
    assert len(stream._tokens) <= 4


def test_a_token_without_text_repeats_nothing() -> None:
    """The prompt ends in the very sign that stands for an unfinished character, and a special token follows."""
    assert pieces(BYTES, [BYTES.end_id, *b"b"], BYTES.encode("a\ufffd")) == ["", "b"]
