"""Every kind of source is read, in the same order each time, and refused with file and line where it cannot be."""

from __future__ import annotations

import builtins
import gzip
import json
import sys
import types
from pathlib import Path
from typing import Any

import pytest

from shuyuan.data.sources import Wanted, open_source, texts
from shuyuan.errors import DataError, MachineError
from tests.data.parts import rows_of, texts_of


def refusal(source: Any, record: Any = None) -> DataError:
    with pytest.raises(DataError) as caught:
        rows_of(source, record)
    assert caught.value.mend
    return caught.value


def no_module(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    real = builtins.__import__

    def absent(wanted: str, *args: Any, **kwargs: Any) -> Any:
        if wanted.split(".")[0] == name:
            raise ImportError(wanted)
        return real(wanted, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", absent)


# ---- plain text ----------------------------------------------------------------------------------------------------


def test_record_is_file_line_or_paragraph(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_text("one\ntwo\n\n\nthree\n")
    assert texts_of(file, "file") == ["one\ntwo\n\n\nthree\n"]
    assert texts_of(file, "line") == ["one", "two", "", "", "three"]
    assert texts_of(file, "paragraph") == ["one\ntwo", "three"]
    rows, _ = rows_of(file, "paragraph")
    assert [row.where for row in rows] == [f"{file}:1", f"{file}:5"]
    assert rows[0].values["file"] == "a.txt"


def test_a_single_text_file_is_cut_into_blocks_at_line_ends(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    content = "".join(f"line {number} of the text\n" for number in range(2000))
    file.write_text(content)
    source = open_source(str(file), Wanted("text", ("text",)))
    assert source.contiguous
    blocks = texts_of(file)
    assert "".join(blocks) == content
    assert len(blocks) > 20
    assert all(block.endswith("\n") for block in blocks)
    assert rows_of(file)[0][1].where == f"{file}:{blocks[0].count(chr(10)) + 1}"


def test_a_block_without_line_ends_is_cut_all_the_same(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_text("书" * 300_000)
    blocks = texts_of(file)
    assert "".join(blocks) == "书" * 300_000
    assert max(map(len, blocks)) <= 2 * texts.block_chars(900_000)


def test_every_line_end_is_a_line_feed(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_bytes(b"one\r\ntwo\rthree\nfour")
    assert texts_of(file, "line") == ["one", "two", "three", "four"]


def test_a_byte_order_mark_is_passed_over(tmp_path: Path) -> None:
    for name, content in (("a.txt", "one"), ("a.jsonl", '{"text": "one"}'), ("a.csv", "text\none\n")):
        (tmp_path / name).write_bytes(b"\xef\xbb\xbf" + content.encode())
        assert texts_of(tmp_path / name, "file") == ["one"]


def test_html_is_read_as_its_reader_sees_it(tmp_path: Path) -> None:
    (tmp_path / "a.html").write_text(
        "<html><head><title>no</title><style>p {}</style></head><body><h1>A &amp; B</h1>"
        "<script>alert('no')</script><p>one\n  two <b>three</b></p><pre>x\n  y</pre><br/>end</body></html>"
    )
    assert texts_of(tmp_path / "a.html", "file") == ["A & B\none two three\nx\n  y\nend\n"]
    assert texts_of(tmp_path / "a.html", "line") == ["A & B", "one two three", "x", "  y", "end"]


def test_a_long_line_is_read_and_one_over_the_limit_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(texts, "RECORD_LIMIT", 1000)
    file = tmp_path / "a.txt"
    file.write_text("short\n" + "x" * 1000 + "\n")
    assert len(texts_of(file, "line")[1]) == 1000
    file.write_text("short\n" + "x" * 1001 + "\n")
    error = refusal(file, "line")
    assert error.code == "data.record-too-long"
    assert error.where == f"{file}:2"
    assert refusal(file, "paragraph").where == f"{file}:2"
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/long.txt").write_text("x" * 1001)
    assert rows_of(tmp_path / "folder")[1] == {"files too long to be one record": 1}


# ---- encodings -----------------------------------------------------------------------------------------------------


def test_the_first_byte_that_is_not_utf8_is_named(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_bytes(b"x" * 2_097_151 + "é".encode() + b"yy\xff")
    error = refusal(file, "line")
    assert error.code == "data.not-utf8"
    assert error.where == str(file)
    assert "2,097,155" in error.what
    for name in ("a.jsonl", "a.csv", "a.json"):
        (tmp_path / name).write_bytes(b'{"text": "' + "中".encode("gb18030") + b'"}')
        assert refusal(tmp_path / name).code == "data.not-utf8"


@pytest.mark.parametrize(
    ("content", "mend"),
    [
        ("患者因咳嗽来诊。\n".encode("gb18030"), "-f GB18030"),
        ("le café de la santé, bientôt\n".encode("cp1252"), "-f WINDOWS-1252"),
        (bytes(range(1, 256)), "Name a file of UTF-8 text"),
    ],
)
def test_the_encoding_that_it_may_have_is_told(tmp_path: Path, content: bytes, mend: str) -> None:
    (tmp_path / "a.txt").write_bytes(content * 20)
    assert mend in str(refusal(tmp_path / "a.txt", "file").mend)


def test_a_character_cut_at_the_end_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes("ab中".encode()[:-1])
    assert "byte 2 " in refusal(tmp_path / "a.txt", "file").what


def test_other_unicode_encodings_are_recognised(tmp_path: Path) -> None:
    for encoding in ("utf-16", "utf-32"):
        for name in ("a.txt", "a.jsonl", "a.csv"):
            (tmp_path / name).write_bytes("text\nsome words\n".encode(encoding))
            error = refusal(tmp_path / name, "line")
            assert error.code == "data.not-utf8"
            assert encoding.upper() in error.what


def test_a_binary_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"\x00\x01\x02" * 1000)
    assert refusal(tmp_path / "a.txt").code == "data.binary"


def test_a_folder_skips_and_counts_what_is_not_text(tmp_path: Path) -> None:
    (tmp_path / "sub/deeper").mkdir(parents=True)
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git/config").write_text("hidden")
    (tmp_path / "b.md").write_text("# b")
    (tmp_path / "a.txt").write_text("a")
    (tmp_path / "README").write_text("no suffix")
    (tmp_path / "sub/deeper/c.py").write_text("c = 1")
    (tmp_path / "sub/picture.png").write_bytes(b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR")
    (tmp_path / "sub/numbers.bin").write_bytes(bytes(100))
    (tmp_path / "sub/late.txt").write_bytes(b"good so far\n" * 200_000 + b"\xff")
    (tmp_path / "empty.txt").write_text("")
    rows, skipped = rows_of(tmp_path)
    assert [row.values["text"] for row in rows] == ["no suffix", "a", "# b", "c = 1"]
    assert [row.values["file"] for row in rows] == ["README", "a.txt", "b.md", "sub/deeper/c.py"]
    assert skipped == {
        "hidden files and folders": 1,
        "files that are not UTF-8": 1,
        "binary files": 2,
        "empty files": 1,
    }
    assert "late" not in "".join(row.values["file"] for row in rows_of(tmp_path, "line")[0])


def test_globs_and_lists(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    for name in ("b.txt", "a.txt", "sub/c.txt", "sub/d.md"):
        (tmp_path / name).write_text(name)
    assert texts_of(f"{tmp_path}/*.txt") == ["a.txt", "b.txt"]
    assert texts_of(f"{tmp_path}/**/*.txt") == ["a.txt", "b.txt", "sub/c.txt"]
    assert texts_of([str(tmp_path / "sub"), str(tmp_path / "b.txt")]) == ["sub/c.txt", "sub/d.md", "b.txt"]
    odd = tmp_path / "odd[1].txt"
    odd.write_text("brackets in a name")
    assert texts_of(odd, "line") == ["brackets in a name"]


@pytest.mark.parametrize("spec", ["nowhere.txt", "nowhere/*.txt"])
def test_nothing_there(tmp_path: Path, spec: str) -> None:
    error = refusal(tmp_path / spec)
    assert error.code == "data.missing"
    assert error.where == str(tmp_path / spec)


def test_an_address_is_told_that_nothing_is_downloaded() -> None:
    error = refusal("https://example.org/notes.jsonl")
    assert error.code == "data.missing"
    assert "nothing is downloaded" in error.what


def test_an_empty_file_or_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("")
    assert refusal(tmp_path / "a.txt").code == "data.empty"
    (tmp_path / "folder").mkdir()
    assert refusal(tmp_path / "folder").code == "data.empty"


# ---- rows with columns ---------------------------------------------------------------------------------------------


def test_json_lines(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    file.write_text('{"text": "one", "who": 1}\n\n  \n{"text": "t\\nwo"}\r\n{"text": "three"}')
    rows, _ = rows_of(file)
    assert [row.values["text"] for row in rows] == ["one", "t\nwo", "three"]
    assert [row.where for row in rows] == [f"{file}:1", f"{file}:4", f"{file}:5"]


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ('{"text": "cut', "data.bad-json"),
        ("[1, 2]", "data.not-an-object"),
        ("[" * 100_000, "data.bad-json"),
        ('{"text": ' + "9" * 5000 + "}", "data.bad-json"),
    ],
)
def test_a_bad_json_line_is_named(tmp_path: Path, line: str, code: str) -> None:
    file = tmp_path / "a.jsonl"
    file.write_text('{"text": "one"}\n' + line + "\n")
    error = refusal(file)
    assert error.code == code
    assert error.where == f"{file}:2"
    assert "cut" not in error.what  # no words of a record in an error


@pytest.mark.parametrize(("name", "where"), [("a.jsonl", ":2"), ("a.json", "")])
def test_a_key_that_is_there_twice_is_named(tmp_path: Path, name: str, where: str) -> None:
    """Of two values one would be lost in silence."""
    rows = ['{"text": "one"}', '{"text": "kept", "who": 1, "text": "second"}']
    file = tmp_path / name
    file.write_text("\n".join(rows) if name == "a.jsonl" else f"[{','.join(rows)}]")
    error = refusal(file)
    assert (error.code, error.where) == ("data.key-twice", f"{file}{where}")
    assert "`text`" in error.what and "second" not in error.what


def test_json_files(tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    records = [{"text": "one", "more": {"x": [1, 2]}}, {"text": "two"}]
    file.write_text(json.dumps(records, indent=1))
    rows, _ = rows_of(file)
    assert [row.values for row in rows] == records
    assert [row.where for row in rows] == [f"{file}:2", f"{file}:11"]
    file.write_text(
        json.dumps({"version": 1, "about": {"list": [3]}, "data": records, "end": None}, indent=1)
    )
    assert [row.values for row in rows_of(file)[0]] == records
    file.write_text(" [ ] ")
    assert rows_of(file)[0] == []


def test_a_line_that_breaks_off_is_named_with_its_column(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "fine"}\n{"text": "cut of\n')
    error = refusal(tmp_path / "a.jsonl")
    assert (error.what, error.where) == (
        "This is not JSON: Invalid control character at column 17.",
        f"{tmp_path / 'a.jsonl'}:2",
    )


@pytest.mark.parametrize(
    "content", ["{}", '{"a": [], "b": []}', "3", "[1]", "[{]", "[{}", "[] []", '{"a": [{}]} x', "nonsense"]
)
def test_a_json_file_of_something_else_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "a.json").write_text(content)
    error = refusal(tmp_path / "a.json")
    assert error.code in ("data.bad-json", "data.not-an-object")
    assert error.where is not None
    assert error.where.startswith(str(tmp_path / "a.json"))


def test_json_lines_that_are_called_json_are_told_their_name(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"text": "one"}\n{"text": "two"}\n')
    error = refusal(tmp_path / "a.json")
    assert error.code == "data.bad-json"
    assert ".jsonl" in error.mend


def test_a_column_that_is_there_twice_is_refused_where_it_is_read(tmp_path: Path) -> None:
    for name, mark in (("a.csv", ","), ("a.tsv", "\t")):
        file = tmp_path / name
        file.write_text(f"text{mark}other{mark}other\none{mark}x{mark}y\n")
        assert texts_of(file) == ["one"]
        file.write_text(f"text{mark}text\none{mark}two\n")
        error = refusal(file)
        assert (error.code, error.where) == ("data.column-twice", f"{file}:1")


def test_csv_with_quoted_line_ends(tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    file.write_bytes(b'who,text\r\n1,"one, ""two""\r\nthree"\r\n\r\n2,\x00four\r\n3,too,many\r\n')
    rows, skipped = rows_of(file)
    assert [row.values for row in rows] == [
        {"who": "1", "text": 'one, "two"\r\nthree'},
        {"who": "2", "text": "\x00four"},
    ]
    assert [row.where for row in rows] == [f"{file}:3", f"{file}:5"]
    assert skipped == {"rows with too few or too many fields": 1}


def test_a_csv_field_of_a_megabyte(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('text\n"' + "x\n" * 500_000 + '"\n')
    assert len(texts_of(tmp_path / "a.csv")[0]) == 1_000_000


@pytest.mark.parametrize("body", ['1,"never closed\nmore\n', '1,"closed" early\n'])
def test_broken_csv_quoting_is_refused(tmp_path: Path, body: str) -> None:
    (tmp_path / "a.csv").write_text("who,text\n" + body)
    error = refusal(tmp_path / "a.csv")
    assert error.code == "data.bad-csv"
    assert error.where is not None
    assert error.where.rpartition(":")[2].isdecimal()


def test_tsv_knows_no_quotes(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text('who\ttext\n1\t"it begins\n2\tand goes on, so\n')
    assert texts_of(tmp_path / "a.tsv") == ['"it begins', "and goes on, so"]


def test_parquet(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    file = tmp_path / "a.parquet"
    parquet.write_table(pyarrow.table({"text": ["one", "two", None], "other": [1, 2, 3]}), file)
    rows, _ = rows_of(file)
    assert [row.values for row in rows] == [{"text": "one"}, {"text": "two"}, {"text": None}]
    assert rows[1].where == f"{file}:row 2"
    assert set(rows_of(file, text="missing")[0][0].values) == {"text", "other"}
    file.write_bytes(b"PAR1 nonsense PAR1")
    assert refusal(file).code == "data.damaged"


# ---- compression ---------------------------------------------------------------------------------------------------


def test_gzip(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl.gz"
    file.write_bytes(gzip.compress(b'{"text": "one"}\n' * 1000))
    assert texts_of(file) == ["one"] * 1000
    file.write_bytes(file.read_bytes()[:-9])
    assert refusal(file).code == "data.damaged"
    file.write_bytes(b"not gzip at all")
    assert refusal(file).code == "data.damaged"


def test_zstandard(tmp_path: Path) -> None:
    zstandard = pytest.importorskip("zstandard")
    file = tmp_path / "a.csv.zst"
    pack = zstandard.ZstdCompressor().compress
    file.write_bytes(pack(b"text\none\n") + pack(b"two\n"))  # two frames, as `cat` makes them
    assert texts_of(file) == ["one", "two"]
    file.write_bytes(b"not zstandard at all")
    assert refusal(file).code == "data.damaged"


@pytest.mark.parametrize("last", [1, 100_000])
def test_a_zstandard_file_that_was_cut_is_refused_and_not_read_in_part(tmp_path: Path, last: int) -> None:
    zstandard = pytest.importorskip("zstandard")
    text = "text\n" + "".join(f"{number:x}\n" for number in range(50_000))
    packed = zstandard.ZstdCompressor().compress(text.encode())
    file = tmp_path / "a.csv.zst"
    file.write_bytes(packed)
    assert len(texts_of(file)) == 50_000
    file.write_bytes(packed[:-last] if last < len(packed) else packed[:10])
    assert refusal(file).code == "data.damaged"


@pytest.mark.parametrize("suffix", ["gz", "zst"])
def test_a_compressed_parquet_file_is_read(tmp_path: Path, suffix: str) -> None:
    pyarrow, zstandard = pytest.importorskip("pyarrow"), pytest.importorskip("zstandard")
    pytest.importorskip("pyarrow.parquet").write_table(
        pyarrow.table({"text": ["one", "two"]}), tmp_path / "a.parquet"
    )
    pack = {"gz": gzip.compress, "zst": zstandard.compress}[suffix]
    (tmp_path / f"a.parquet.{suffix}").write_bytes(pack((tmp_path / "a.parquet").read_bytes()))
    assert texts_of(tmp_path / f"a.parquet.{suffix}") == ["one", "two"]


@pytest.mark.parametrize(
    ("name", "module", "extra"),
    [
        ("a.txt.zst", "zstandard", "zstd"),
        ("a.parquet", "pyarrow", "parquet"),
        ("hf:org/name", "datasets", "huggingface"),
    ],
)
def test_a_missing_extra_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, module: str, extra: str
) -> None:
    no_module(monkeypatch, module)
    source = name
    if not name.startswith("hf:"):
        (tmp_path / name).write_bytes(b"anything")
        source = str(tmp_path / name)
    with pytest.raises(MachineError, match=r"machine\.missing-extra") as caught:
        rows_of(source)
    assert f"shuyuan[{extra}]" in caught.value.mend


# ---- the hub and what is built in ----------------------------------------------------------------------------------


class _Streamed(list[Any]):
    column_names = ("text", "extra")

    def select_columns(self, names: list[str]) -> _Streamed:
        return _Streamed({name: row[name] for name in names} for row in self)


def test_the_hub_is_streamed(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def load_dataset(name: str, *, split: str, streaming: bool) -> _Streamed:
        asked.append((name, split, streaming))
        if split == "missing":
            raise ValueError("Unknown split\nsecond line")
        return _Streamed([{"text": "one", "extra": 1}, {"text": "two", "extra": 2}])

    fake = types.ModuleType("datasets")
    fake.load_dataset = load_dataset  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "datasets", fake)
    rows, _ = rows_of("hf:org/name:test")
    assert [dict(row.values) for row in rows] == [{"text": "one"}, {"text": "two"}]
    assert rows[1].where == "hf:org/name:test:row 2"
    rows_of("hf:org/name")
    assert asked == [("org/name", "test", True), ("org/name", "train", True)]
    error = refusal("hf:org/name:missing")
    assert error.code == "data.hub-failed"
    assert "Unknown split" in error.what
    assert "second line" not in error.what


def test_digits_are_no_text() -> None:
    error = refusal("digits")
    assert error.code == "data.holds-images"
    assert 'model.family = "cnn"' in error.mend


def test_built_ins_stand_alone(tmp_path: Path) -> None:
    assert refusal(["stdlib", str(tmp_path)]).code == "data.mixed-list"
