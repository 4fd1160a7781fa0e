"""What all verbs share: options, signals, errors in words, exit status, and one JSON object at the end."""

from __future__ import annotations

import json
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import Interrupted, MachineError, ShuyuanError, out_of_memory
from .screen import Screen

if TYPE_CHECKING:
    from ..pipeline import Job

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object at the end.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
Key = Annotated[
    str | None, typer.Option("--key", help="Where the vault's key is, if not where the recipe says.")
]
Changes = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change a key of the recipe.")
]
Out = Annotated[Path | None, typer.Option("--out", help="The run folder [default: runs/NAME].")]
Where = Annotated[Path, typer.Argument(metavar="RUN|RECIPE", help="A run folder or a recipe file.")]
Variant = Annotated[
    str, typer.Option(help="Which variant of the model, such as int8 or pruned-50; `info` lists them.")
]
Folder = Annotated[Path, typer.Argument(metavar="RUN", help="A run folder.")]
Temperature = Annotated[float, typer.Option(help="0 always takes the likeliest token.")]
TopP = Annotated[float | None, typer.Option(help="Choose among the likeliest tokens of this total share.")]


class Answer:
    """What a verb has to say at the end.

    Attributes:
        screen: hears about stages and draws them.
        as_json: whether the answer is wanted as JSON.
    """

    def __init__(self, screen: Screen, as_json: bool) -> None:
        self.screen = screen
        self.as_json = as_json
        self._result: dict[str, Any] | None = None
        self._show: Callable[[], None] = lambda: None
        self._status = 0

    @contextmanager
    def leading(self) -> Iterator[None]:
        """Joins the processes that torchrun started. In all but rank 0 this does their work, and ends the verb."""
        from ..train import joined

        with joined(self.screen.stop) as ranks:
            if ranks.number:
                raise typer.Exit
            yield

    def begin(
        self, target: Path, verb: str, out: Path | None, changes: list[str] | None, key: str | None
    ) -> AbstractContextManager[Job]:
        """Opens the run for work that this screen watches and that signals can stop.

        Args:
            target: a run's folder, or a recipe's file or name.
            verb: said to others who find the run locked.
            out: the folder of a new run.
            changes: of `--set`.
            key: where the vault's key is.
        """
        from .. import pipeline

        return pipeline.begin(
            target, verb, out=out, changes=changes or [], key=key, progress=self.screen, stop=self.screen.stop
        )

    def give(self, result: dict[str, Any], show: Callable[[], None], *, status: int = 0) -> None:
        """Sets the answer: the JSON object, how to show it to people, and the exit status.

        Args:
            result: what JSON can hold.
            show: prints it for people; called where no JSON is wanted.
            status: 0 done, 1 a refusal or failure.
        """
        self._result, self._show, self._status = result, show, status

    def finish(self) -> None:
        """Prints the answer."""
        if self.as_json:
            print_json(self._result or {})
        else:
            self._show()
        if self._status:
            raise typer.Exit(self._status)


@contextmanager
def frame(as_json: bool = False, debug: bool = False) -> Iterator[Answer]:
    """Runs a verb's work: signals are obeyed, errors become words and an exit status.

    Args:
        as_json: whether the answer, or the error, is printed as one JSON object.
        debug: whether an error's traceback is shown.

    Raises:
        typer.Exit: with the exit status where it is not 0: 1 refused or failed, 130 interrupted.
    """
    screen = Screen()
    answer = Answer(screen, as_json)
    try:
        with _obeying_signals(screen):
            yield answer
        answer.finish()
    except (typer.Exit, typer.Abort):
        raise
    except KeyboardInterrupt:
        error = Interrupted(
            "run.interrupted", "Interrupted.", mend="Nothing is lost; the same command goes on from here."
        )
        _fail(screen, error, as_json, debug)
    except ShuyuanError as error:
        _fail(screen, error, as_json, debug)
    except BrokenPipeError:
        raise typer.Exit(0) from None  # the reader of our output has had enough, as in `| head`
    except Exception as error:
        _fail(screen, _unexpected(error), as_json, debug)


def print_json(result: dict[str, Any]) -> None:
    """One JSON object on stdout; figures that are not finite become null, so that any parser reads it."""
    sys.stdout.write(json.dumps(_finite(result), ensure_ascii=False) + "\n")
    sys.stdout.flush()


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return None
    return value


def _fail(screen: Screen, error: ShuyuanError, as_json: bool, debug: bool) -> None:
    screen.close()
    if debug:
        traceback.print_exc(file=sys.stderr)
    screen.error(error)
    if as_json:
        print_json({"error": error.as_dict()})
    raise typer.Exit(error.exit_status) from None


def _unexpected(error: Exception) -> ShuyuanError:
    """What nobody foresaw. The message is left out: it could quote a record."""
    if isinstance(error, OSError):
        return MachineError(
            "machine.os-error",
            f"The system refused: {error.strerror or type(error).__name__}.",
            where=str(error.filename) if error.filename else None,
            mend="Mend that (space, permission, path) and run the same command again; what was whole is still whole.",
        )
    if (exhausted := out_of_memory(error)) is not None:
        return exhausted
    places = [frame for frame in traceback.extract_tb(error.__traceback__) if "shuyuan" in frame.filename]
    place = f"{Path(places[-1].filename).name}:{places[-1].lineno}" if places else None
    return ShuyuanError(
        "internal.unexpected",
        f"Something went wrong that should not ({type(error).__name__}).",
        where=place,
        mend="Run again with --debug to see more, and report it.",
    )


@contextmanager
def _obeying_signals(screen: Screen) -> Iterator[None]:
    def obey(number: int, _: FrameType | None) -> None:
        if screen.stop.gentle and not screen.stop.is_set():
            screen.stop.set()
            screen.show("Stopping: the state is saved after this step. A second signal breaks off at once.")
        else:
            raise KeyboardInterrupt

    before = {number: signal.signal(number, obey) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        screen.close()
        for number, handler in before.items():
            signal.signal(number, handler)


def take_any_text() -> None:
    """Makes stdout and stderr take any text: a terminal without UTF-8 shows a replacement instead of failing."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
