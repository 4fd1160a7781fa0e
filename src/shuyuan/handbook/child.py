"""What runs inside the limited subprocess: `python -I child.py`, with the job as JSON on stdin.

It stands alone (no import of shuyuan), loads the question's check.py, then the reader's code, and tells the outcome
through a pipe of its own; each line there begins with a token that the reader's printing cannot know.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import sys
import traceback
import types
from collections.abc import Callable
from typing import Any, NoReturn

ANSWER = "answer.py"
FILE_BYTES = 64 << 20  # the largest file that the code may write


class WrongError(Exception):
    """Raised by a check: the answer is wrong in a known way."""

    def __init__(self, hint: str, **facts: object) -> None:
        super().__init__(hint)
        self.outcome: dict[str, Any] = {
            "code": "hint",
            "hint": hint,
            "facts": {k: str(v) for k, v in facts.items()},
        }


class FaultError(Exception):
    """The reader's code failed; the outcome says how."""

    def __init__(self, **outcome: object) -> None:
        super().__init__(str(outcome))
        self.outcome = outcome


def main() -> None:
    """Does the job that stands on stdin, and tells how it went through the pipe that the job names."""
    job = json.load(sys.stdin)
    tell = _teller(job["pipe"], job["token"])
    check = _load_check(job["check"])
    tools = _tools_of(check)
    _limit(job["cpu_seconds"])
    tell({"code": "ready"})
    outcome = _outcome(check, wrong, job["answer"], job["functions"])
    replaced = _replaced(tools)
    if replaced and outcome["code"] in (
        "passed",
        "hint",
        "checker",
    ):  # what it found out is not to be relied on
        outcome = {"code": "replaced", "name": replaced}
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):  # the code has closed or replaced it
            stream.flush()
    tell(outcome)
    os._exit(0)


def _outcome(
    check: Callable[..., None], refuse: Callable[..., NoReturn], source: str, functions: list[str]
) -> dict[str, Any]:
    try:
        check(_load_answer(source, functions), refuse)
    except (WrongError, FaultError) as known:
        return known.outcome
    except MemoryError:
        return {"code": "memory"}
    except BaseException as error:
        return {"code": "checker", "kind": type(error).__name__, "what": _text(error)}
    return {"code": "passed"}


def wrong(hint: str, **facts: object) -> NoReturn:
    """Handed to check.py: ends the check with one of the question's hints, its gaps filled by `facts`."""
    raise WrongError(hint, **facts)


def _load_check(path: str) -> Callable[..., None]:
    spec = importlib.util.spec_from_file_location("check", path)
    if spec is None or spec.loader is None:
        raise ImportError(path)
    module = importlib.util.module_from_spec(spec)
    sys.modules["check"] = module
    spec.loader.exec_module(module)
    return module.check  # type: ignore[no-any-return]


def _tools_of(check: Callable[..., None]) -> list[tuple[object, str, object]]:
    """What the check calls, as (owner, name, value): its own functions, and those of the modules that it imports."""
    own = sys.modules[check.__module__]
    used = [value for value in vars(own).values() if isinstance(value, types.ModuleType)]
    tensors = [module.Tensor for module in used if hasattr(module, "Tensor")]
    owners = [own, sys.modules[__name__], sys.modules["builtins"], *used, *tensors]
    found = [(owner, name, getattr(owner, name, None)) for owner in owners for name in dir(owner)]
    return [(owner, name, value) for owner, name, value in found if callable(value)]


def _replaced(tools: list[tuple[object, str, object]]) -> str | None:
    """The name of one that is another by now: somebody's shortcut (`torch.equal = …`), which would have the check say anything."""
    for owner, name, value in tools:
        now = getattr(owner, name, None)
        if now is not value and now != value and _origin(now) != _origin(value):
            return f"{getattr(owner, '__name__', owner)}.{name}"
    return None


def _origin(function: object) -> tuple[object, object]:
    """Where it is from; torch wraps some of its own functions anew when its compiler is first asked for."""
    return getattr(function, "__module__", None), getattr(function, "__qualname__", None)


def _load_answer(source: str, functions: list[str]) -> types.SimpleNamespace:
    """The asked functions of the reader's module, each wrapped so that its failures are known as the reader's."""
    module = types.ModuleType("answer")
    module.__file__ = ANSWER
    sys.modules["answer"] = module
    try:
        code = compile(source, ANSWER, "exec")
    except (SyntaxError, ValueError) as error:
        line = getattr(error, "lineno", None) or 1
        raise FaultError(code="syntax", line=line, what=getattr(error, "msg", None) or str(error)) from None
    _guarded(exec, "")(code, module.__dict__)
    answer = types.SimpleNamespace()
    for name in functions:
        if not hasattr(module, name):
            raise FaultError(code="missing", name=name)
        found = getattr(module, name)
        if not callable(found):
            raise FaultError(code="not-callable", name=name, kind=type(found).__name__)
        setattr(answer, name, _guarded(found, name))
    return answer


def _guarded(function: Callable[..., Any], name: str) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except (SystemExit, KeyboardInterrupt):
            raise FaultError(code="exit") from None
        except MemoryError:
            raise
        except BaseException as error:
            if name and isinstance(error, NotImplementedError):
                raise FaultError(code="not-written", name=name) from None
            raise _fault_of(error) from None

    return call


def _fault_of(error: BaseException) -> FaultError:
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == ANSWER]
    facts = {"kind": type(error).__name__, "what": _text(error)}
    if lines:
        return FaultError(code="raised", line=lines[-1], **facts)
    return FaultError(code="raised-outside", **facts)


def _text(error: BaseException) -> str:
    try:
        return str(error).strip()[:500] or "(no message)"
    except Exception:
        return "(its message cannot be shown)"


def _limit(cpu_seconds: int) -> None:
    """Limits of the kernel, counted from here so that loading the checker is not the reader's time."""
    try:
        import resource
    except ImportError:  # Windows; the parent's wall limit still holds
        return
    used = resource.getrusage(resource.RUSAGE_SELF)
    limit = int(used.ru_utime + used.ru_stime) + cpu_seconds
    for kind, value in (
        (resource.RLIMIT_CPU, limit),
        (resource.RLIMIT_FSIZE, FILE_BYTES),
        (resource.RLIMIT_CORE, 0),
    ):
        _, hard = resource.getrlimit(kind)
        resource.setrlimit(kind, (value if hard < 0 else min(value, hard), hard))


def _teller(pipe: int, token: str) -> Callable[[dict[str, Any]], None]:
    """How outcomes are told; a forked child of the reader's code stays silent.

    It keeps what it needs, so that a reader who replaces `os.write` or `json.dumps` changes nothing of it.
    """
    os.set_inheritable(pipe, False)
    owner, own_number, write, encode = os.getpid(), os.getpid, os.write, json.JSONEncoder().encode

    def tell(outcome: dict[str, Any]) -> None:
        if own_number() == owner:
            write(pipe, f"{token} {encode(outcome)}\n".encode())

    return tell


if __name__ == "__main__":
    main()
