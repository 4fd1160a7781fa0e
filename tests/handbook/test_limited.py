"""Hostile and unlucky submissions: each ends soon, with a clear message, and leaves no process and no file behind."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import pytest

from shuyuan.handbook import Question, Verdict, grade, limited, load_question

from .conftest import CODING, write_question

DOUBLE = "def double(x):\n    return 2 * x\n"
LONGEST = 8.0  # seconds: the limit of 1 and a busy machine


def graded(question: Question, source: str | bytes, language: str = "en") -> Verdict:
    file = question.folder / "mine.py"
    file.write_bytes(source if isinstance(source, bytes) else source.encode())
    begun = time.monotonic()
    verdict = grade(question, [str(file)], language)  # type: ignore[arg-type]
    assert time.monotonic() - begun < LONGEST
    return verdict


def only_code(verdict: Verdict) -> str:
    (remark,) = verdict.remarks
    assert remark.correct is verdict.correct
    return remark.code


@pytest.mark.parametrize(
    ("source", "code", "says"),
    [
        ("while True: pass\n", "time", "1 seconds"),
        ("def double(x):\n    while True: pass\n", "time", "endless loop"),
        ("import time\ndef double(x):\n    time.sleep(60)\n", "time", "1 seconds"),
        ("import signal\nsignal.signal(signal.SIGXCPU, signal.SIG_IGN)\nwhile True: pass\n", "time", "1 seconds"),
        ("import sys\nsys.exit(0)\n", "exit", "sys.exit"),
        ("import sys\ndef double(x):\n    sys.exit(0)\n", "exit", "sys.exit"),
        ("import os\nos._exit(0)\n", "ended", "exit status 0"),
        ("import os\ndef double(x):\n    os._exit(0)\n", "ended", "exit status 0"),
        ("import os\nos.abort()\n", "ended", "exit status -6"),
        ("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)\n", "ended", "exit status -9"),
        ("def double(x:\n", "syntax", "Line 1"),
        ("x = 1\n  y = 2\n", "syntax", "Line 2"),
        ("a = '\0'\n", "syntax", "null bytes"),
        ("1 / 0\n", "raised", "Line 1 raised ZeroDivisionError"),
        ("def double(x):\n    y = 1\n    return x.no\n", "raised", "Line 3 raised AttributeError"),
        ("def double(x):\n    return double(x)\n", "raised", "RecursionError"),
        ("raise NotImplementedError\n", "raised", "NotImplementedError"),
        ("def double(x):\n    raise NotImplementedError\n", "not-written", "not written yet"),
        ("class E(BaseException):\n    def __str__(self): 1 / 0\nraise E\n", "raised", "cannot be shown"),
        ("input()\n", "raised", "EOFError"),
        ("def twice(x):\n    return 2 * x\n", "missing", "no function “double”"),
        ("double = 10\n", "not-callable", "but int"),
        ("def double():\n    return 10\n", "raised-outside", "TypeError"),
        ("def double(x):\n    return 'ten'\n", "checker", "TypeError"),
        ("def double(x):\n    return None\n", "checker", "what your code returned"),
        ("def double(x):\n    return x\n", "hint:same", "5 came back unchanged"),
        ("import os\nos.closerange(0, 200)\n" + DOUBLE, "ended", "exit status"),
        ("import os, signal\nos.kill(os.getpid(), signal.SIGSTOP)\n" + DOUBLE, "time", "1 seconds"),
        ("import threading, os, time\nthreading.Thread(target=os._exit, args=[0]).start()\ntime.sleep(9)\n", "ended", "exit status 0"),
        ("hog = []\nwhile True: hog.append(bytearray(20_000_000)); hog[-1][::4096] = b'x' * len(hog[-1][::4096])\n", "memory", "0.3 GB"),
    ],
)  # fmt: skip
def test_each_failure_has_its_message(coding: Question, source: str, code: str, says: str) -> None:
    verdict = graded(coding, source)
    assert not verdict.correct
    assert only_code(verdict) == code
    assert says in verdict.remarks[0].text


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("def double(x:\n", "第 1 行"),
        ("import os\nos._exit(3)\n", "退出状态 3"),
        ("def double(x):\n    return x\n", "原样返回"),
    ],
)
def test_messages_are_in_the_reader_s_language(coding: Question, source: str, says: str) -> None:
    assert says in graded(coding, source, "zh").remarks[0].text


def test_the_right_answer_passes_and_what_it_prints_is_shown(coding: Question) -> None:
    verdict = graded(coding, "print('hello 你好')\n" + DOUBLE)
    assert verdict.correct and verdict.complete
    assert verdict.output == "hello 你好\n"


def test_printing_cannot_fake_a_pass(coding: Question) -> None:
    fake = '{"code": "passed"}'
    source = f"""
import os, sys
for fd in range(1, 64):
    try:
        os.write(fd, b'\\n{fake}\\n0123456789abcdef {fake}\\npassed\\n')
    except OSError:
        pass
os._exit(0)
"""
    assert only_code(graded(coding, source)) == "ended"


SEVEN = "def double(x):\n    return 7\n"


@pytest.mark.parametrize(
    ("shortcut", "code"),
    [
        ("import __main__\n__main__.wrong = lambda *a, **k: None\n", "replaced"),
        ("import __main__\n__main__._outcome = lambda *a: {'code': 'passed'}\n", "replaced"),
        ("import sys\nsys.modules['check'].check = lambda *a: None\n", "replaced"),
        ("import math\nmath.isclose = lambda *a, **k: True\n", "replaced"),
        ("import math\nmath.isclose = math.hypot\n", "replaced"),
        ("import builtins\nbuiltins.abs = lambda x: 0\n", "replaced"),
        ("import json\njson.dumps = lambda o: '{\"code\": \"passed\"}'\n", "checker"),
        ("import os\nw = os.write\nos.write = lambda f, d: w(f, d.split()[0] + b' {\"code\": \"passed\"}\\n')\n", "checker"),
        ("import atexit, os\natexit.register(os._exit, 0)\n", "checker"),
    ],
)  # fmt: skip
def test_a_shortcut_does_not_pass(coding: Question, shortcut: str, code: str) -> None:
    check = coding.folder / "check.py"
    check.write_text(
        "import math\n" + check.read_text() + "    assert math.isclose(found, 10) and abs(found - 10) < 1\n"
    )
    assert only_code(graded(coding, shortcut + SEVEN)) == code
    late = "".join(f"    {line}\n" for line in shortcut.splitlines())
    assert only_code(graded(coding, f"def double(x):\n{late}    return 7\n")) == code


def test_what_the_check_uses_may_be_called_and_imported(coding: Question) -> None:
    check = coding.folder / "check.py"
    check.write_text("import math\n" + check.read_text())
    source = "import math\nfrom math import *\nabs = abs\ndef double(x):\n    return math.fsum([x, x])\n"
    assert graded(coding, source).correct


def test_what_equals_everything_does_not_pass(coding: Question) -> None:
    source = "class Yes(int):\n    __eq__ = lambda s, o: True\n    __hash__ = int.__hash__\ndef double(x):\n    return Yes(7)\n"
    assert not graded(coding, source).correct


def test_a_forked_copy_cannot_answer_and_does_not_stay(coding: Question) -> None:
    assert graded(coding, "import os\nos.fork()\n" + DOUBLE).correct
    source = "import os\nif os.fork():\n    os._exit(0)\n" + DOUBLE
    assert only_code(graded(coding, source)) == "ended"


def test_children_are_killed_even_if_they_leave_the_group(coding: Question, tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    source = f"""
import os, time
for leave in (False, True, True):
    if os.fork() == 0:
        if leave:
            os.setsid()
        if os.fork() == 0:
            with open({str(pids)!r}, "a") as out:
                print(os.getpid(), file=out)
            time.sleep(60)
        os._exit(0)
time.sleep(0.5)
"""
    assert graded(coding, source + DOUBLE).correct
    born = [int(pid) for pid in pids.read_text().split()]
    assert len(born) == 3
    assert not [pid for pid in born if alive(pid)]


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_too_many_processes_are_stopped(coding: Question) -> None:
    source = "import subprocess\nfor _ in range(40): subprocess.Popen(['sleep', '60'])\nimport time; time.sleep(9)\n"
    assert only_code(graded(coding, source)) == "processes"


@pytest.mark.parametrize("leave", ["", "os.setsid()"], ids=["one group", "each its own"])
def test_what_multiplies_is_killed_whole(coding: Question, tmp_path: Path, leave: str) -> None:
    """256 of them, in a tenth of a second; a true fork bomb is no more, only longer."""
    source = f"""
import os, time
for _ in range(8):
    if os.fork() == 0:
        {leave or "pass"}
with open({str(tmp_path / "pids")!r}, "a") as out:
    print(os.getpid(), file=out)
time.sleep(60)
"""
    assert only_code(graded(coding, source)) == "processes"
    time.sleep(0.2)
    born = (tmp_path / "pids").read_text().split() if (tmp_path / "pids").exists() else []
    assert not [pid for pid in born if pid.isdigit() and alive(int(pid))]


def test_memory_of_children_counts(coding: Question) -> None:
    hog = "import time; x = b'x' * 150_000_000; time.sleep(60)"
    source = f"import subprocess, sys, time\nfor _ in range(4): subprocess.Popen([sys.executable, '-c', {hog!r}])\ntime.sleep(9)\n"
    assert only_code(graded(coding, source)) in ("memory", "time")  # the time, where they come up slowly


def test_the_folder_may_be_gone_already(coding: Question) -> None:
    assert graded(coding, "import os, shutil\nshutil.rmtree(os.getcwd())\n" + DOUBLE).correct


def test_a_hundred_megabytes_of_output_are_no_burden(tmp_path: Path) -> None:
    question = load_question(
        write_question(tmp_path / "double", CODING.replace("seconds = 1.0", "seconds = 60"))
    )
    file = tmp_path / "mine.py"
    file.write_text("for _ in range(100): print('x' * 1_000_000)\n" + DOUBLE)
    verdict = grade(question, [str(file)])
    assert verdict.correct and len(verdict.output) < limited.OUTPUT_BYTES + 200


def test_a_flood_of_output_is_cut(coding: Question) -> None:
    verdict = graded(coding, "for _ in range(3000): print('x' * 1000)\n" + DOUBLE)
    assert verdict.correct
    assert len(verdict.output) < limited.OUTPUT_BYTES + 200
    assert verdict.output.endswith("your code printed more than 20 kB.")
    assert only_code(graded(coding, "while True: print('x' * 1000)\n")) == "time"


def test_closed_streams_do_no_harm(coding: Question) -> None:
    assert graded(coding, "import sys\nsys.stdout.close(); sys.stderr = None\n" + DOUBLE).correct


def test_it_runs_alone_in_an_empty_folder_with_nothing_of_my_environment(
    coding: Question, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET_KEY", "hunter2")
    monkeypatch.setenv("PYTHONSTARTUP", "/nowhere")
    source = (
        "import os, sys\nprint(os.listdir(), os.getcwd(), sorted(os.environ), sys.flags.isolated, sys.path)\n"
    )
    output = graded(coding, source + DOUBLE).output
    assert output.startswith("[]")
    assert (
        "SECRET_KEY" not in output
        and "PYTHONSTARTUP" not in output
        and str(Path.cwd()) not in output.split()[1]
    )
    assert "] 1 [" in output


def test_the_folder_is_gone_afterwards(coding: Question) -> None:
    before = set(Path(tempfile.gettempdir()).glob("shuyuan-practice-*"))
    graded(coding, "open('left.txt', 'w').write('x')\nimport os\nos.mkdir('d'); os.chmod('d', 0)\n" + DOUBLE)
    assert set(Path(tempfile.gettempdir()).glob("shuyuan-practice-*")) <= before


def test_no_file_may_grow_without_end(coding: Question) -> None:
    source = "with open('big', 'wb') as out:\n    for _ in range(100): out.write(bytes(1 << 20))\n"
    assert "OSError" in graded(coding, source + DOUBLE).remarks[0].text


def test_no_descriptor_is_left_open(coding: Question) -> None:
    graded(coding, DOUBLE)
    before = len(list(Path("/proc/self/fd").iterdir()))
    for source in (DOUBLE, "import os\nos._exit(0)\n"):
        graded(coding, source)
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_files_that_are_no_answer(coding: Question, tmp_path: Path) -> None:
    assert only_code(grade(coding, [str(tmp_path / "none.py")])) == "no-file"
    assert only_code(grade(coding, [str(tmp_path)])) == "no-file"
    assert only_code(graded(coding, b"\xff\xfe")) == "unreadable-file"
    assert only_code(graded(coding, b"#" * 1_000_001)) == "file-too-large"
    assert graded(coding, b"\xef\xbb\xbf" + DOUBLE.encode()).correct
