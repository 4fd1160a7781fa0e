"""decode(encode(x)) == x for every text; the library alone gives the same ids; learning is repeatable."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer as HubTokenizer
from tokenizers import models, normalizers, pre_tokenizers

from shuyuan.data import tokenizer as module
from shuyuan.data.tokenizer import END, Tokenizer, byte_tokenizer, char_tokenizer, given_tokenizer, learn_bpe
from shuyuan.errors import DataError

LEARNED = learn_bpe(["the river and the stone, the river and the garden 书院里的书 " * 20], 400)
KINDS = {"byte": byte_tokenizer(), "char": char_tokenizer("abc书 \n<|end>0x41"), "bpe": LEARNED}

tricky = st.sampled_from(
    [
        END,
        "<|endoftext|>",
        "</s>",
        "<0x41>",
        "Ġ",
        "书院",
        "👩‍👩‍👧",
        "\x00",
        "\r\n",
        "\u200d",
        "é",
        "e\u0301",
        "  ",
        "'s",
    ]
)
texts = st.lists(st.one_of(tricky, st.text(max_size=8)), max_size=8).map("".join)


@pytest.mark.parametrize("kind", KINDS)
@given(text=texts)
def test_round_trip(kind: str, text: str) -> None:
    tokenizer = KINDS[kind]
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    assert tokenizer.end_id not in ids
    assert all(0 <= token < tokenizer.vocab_size for token in ids)


@pytest.mark.parametrize("kind", KINDS)
@given(many=st.lists(texts, max_size=5))
def test_batches_give_the_same_as_one_by_one(kind: str, many: list[str]) -> None:
    tokenizer = KINDS[kind]
    assert tokenizer.encode_batch(many) == [tokenizer.encode(text) for text in many]
    flat, ends = tokenizer.encode_flat(many)
    assert flat.tolist() == [token for text in many for token in tokenizer.encode(text)]
    assert len(ends) == len(many)


@pytest.mark.parametrize("kind", KINDS)
@given(text=texts)
def test_the_library_alone_gives_the_same_ids(kind: str, text: str) -> None:
    """So a model/tokenizer.json of ours means the same in transformers; special tokens in text are the one difference."""
    hub = HubTokenizer.from_str(KINDS[kind].to_json())
    hub.encode_special_tokens = True
    assert hub.encode(text, add_special_tokens=False).ids == KINDS[kind].encode(text)


@pytest.mark.parametrize("kind", KINDS)
def test_kept_through_json(kind: str) -> None:
    again = Tokenizer.from_json(KINDS[kind].to_json())
    assert again.kind == kind
    assert (again.vocab_size, again.end_id) == (KINDS[kind].vocab_size, KINDS[kind].end_id)
    assert again.encode(f"书 {END} x") == KINDS[kind].encode(f"书 {END} x")


def test_the_end_token_decodes_to_nothing() -> None:
    for tokenizer in KINDS.values():
        assert tokenizer.decode([*tokenizer.encode("ab"), tokenizer.end_id]) == "ab"


def test_half_a_pair_is_the_replacement_character() -> None:
    for tokenizer in KINDS.values():
        assert tokenizer.decode(tokenizer.encode("a\ud83db")) == "a\N{REPLACEMENT CHARACTER}b"


def test_sizes() -> None:
    assert byte_tokenizer().vocab_size == 257
    assert byte_tokenizer().encode("A书") == [65, 228, 185, 166]
    assert char_tokenizer("abca").vocab_size == 256 + 3 + 1
    assert char_tokenizer("ab").encode("ba") == [257, 256]
    assert 257 < LEARNED.vocab_size < 400  # so little text holds no more pairs


@pytest.mark.parametrize("kind", KINDS)
def test_long_texts_are_encoded_by_pieces(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_PIECE", 50)
    monkeypatch.setattr(module, "_BATCH", 120)
    for text in ("word " * 200, "书" * 333, "line\n" * 100 + "x" * 400):
        assert KINDS[kind].decode(KINDS[kind].encode(text)) == text
        assert KINDS[kind].encode_batch([text, "", text])[2] == KINDS[kind].encode(text)


def test_learning_is_the_same_in_every_process(tmp_path: Path) -> None:
    program = (
        "import sys; from shuyuan.data.tokenizer import learn_bpe; "
        "print(learn_bpe(open(sys.argv[1], encoding='utf-8').read().splitlines(), 600).to_json())"
    )
    file = tmp_path / "text.txt"
    source = Path(module.__file__).read_text(encoding="utf-8")
    file.write_text(source + "书院里的书很多，学生也很多。\n" * 3, encoding="utf-8")
    shown = {
        subprocess.run(
            [sys.executable, "-c", program, str(file)],
            env={"PYTHONHASHSEED": seed, "RAYON_NUM_THREADS": threads},
            capture_output=True,
            check=True,
        ).stdout
        for seed, threads in (("1", "1"), ("2", "2"), ("3", "3"))
    }
    assert len(shown) == 1


def test_a_given_tokenizer(tmp_path: Path) -> None:
    hub = HubTokenizer(models.WordLevel({"[UNK]": 0, "a": 1, "b": 2, "</s>": 3}, unk_token="[UNK]"))
    hub.pre_tokenizer = pre_tokenizers.Whitespace()
    hub.normalizer = normalizers.Lowercase()
    hub.enable_truncation(2)
    hub.enable_padding()
    (tmp_path / "tokenizer.json").write_text(hub.to_str())
    for path in (tmp_path, tmp_path / "tokenizer.json"):
        tokenizer = given_tokenizer(path)
        assert tokenizer.end_id == 3
        assert tokenizer.encode("a B a") == [1, 2, 1]
        assert [len(ids) for ids in tokenizer.encode_batch(["a", "a b a"])] == [1, 3]
    plain = HubTokenizer(models.WordLevel({"[UNK]": 0, "a": 1}, unk_token="[UNK]"))
    tokenizer = Tokenizer(plain)
    assert (tokenizer.end_id, tokenizer.vocab_size) == (2, 3)


@pytest.mark.parametrize(
    "content",
    ["", "{}", "nonsense", '{"model": 3}', json.dumps({"version": "1.0", "model": {"type": "Other"}})],
)
def test_what_is_no_tokenizer_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "tokenizer.json").write_text(content)
    with pytest.raises(DataError, match=r"data\.bad-tokenizer"):
        given_tokenizer(tmp_path)


@pytest.mark.parametrize(
    ("special", "start", "end"),
    [
        (["[PAD]", "[CLS]", "[SEP]"], "[CLS]", "[SEP]"),
        (
            ["<|endoftext|>", "[CLS]", "[SEP]"],
            "[CLS]",
            "[SEP]",
        ),  # what a generator would end with is not what closes a row
        (["<s>", "</s>"], "<s>", "</s>"),
        (["<|begin_of_text|>", "<|end_of_text|>"], "<|begin_of_text|>", "<|end_of_text|>"),
        (["<|endoftext|>"], None, "<|endoftext|>"),
        ([], None, "<|end|>"),
    ],
)
def test_the_tokens_that_open_and_close_a_row(special: list[str], start: str | None, end: str) -> None:
    hub = HubTokenizer(models.WordLevel({"[UNK]": 0, "<s": 1, "a": 2}, unk_token="[UNK]"))
    hub.add_special_tokens(special)
    tokenizer = Tokenizer.from_json(hub.to_str())
    assert tokenizer.start_id == (hub.token_to_id(start) if start else None)
    assert tokenizer.end_id == (hub.token_to_id(end) if special else 3)
    assert Tokenizer.from_json(tokenizer.to_json()).start_id == tokenizer.start_id


def test_a_word_that_looks_like_a_start_token_is_none() -> None:
    hub = HubTokenizer(models.WordLevel({"[UNK]": 0, "<s>": 1, "</s>": 2}, unk_token="[UNK]"))
    assert Tokenizer.from_json(hub.to_str()).start_id is None
    for tokenizer in KINDS.values():
        assert tokenizer.start_id is None


def test_no_tokenizer_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"data\.missing"):
        given_tokenizer(tmp_path / "none.json")


def test_transformers_opens_it(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    for kind, tokenizer in KINDS.items():
        file = tmp_path / f"{kind}.json"
        file.write_text(tokenizer.to_json(), encoding="utf-8")
        fast = transformers.PreTrainedTokenizerFast(tokenizer_file=str(file), eos_token=END)
        assert fast.encode("abc 书院\n", add_special_tokens=False) == tokenizer.encode("abc 书院\n")
        assert fast.eos_token_id == tokenizer.end_id
