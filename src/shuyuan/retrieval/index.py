"""An index that is open for questions."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from ..runs import Run
from ..vault import Reader, open_store
from . import folder
from .matching import Vote, vote
from .scoring import best
from .words import asked


@dataclass(frozen=True)
class Found:
    """A passage that fits a question.

    Attributes:
        document: name of its document: a file, or file:line.
        line: of the file, where it begins.
        start: first character, counted from the beginning of the document's text.
        end: the character behind the last.
        score: the higher the better; comparable for one question only.
        text: the passage; of pairs, the question that is answered.
        answer: of pairs.
        is_file: whether the document is a whole file, whose lines can be counted on.
    """

    document: str
    line: int
    start: int
    end: int
    score: float
    text: str
    answer: str | None = None
    is_file: bool = False

    @property
    def citation(self) -> str:
        """Where it stands, in words."""
        place = f"{self.document}:{self.line}" if self.is_file else self.document
        return f"{place}, characters {self.start:,} to {self.end:,}"

    def as_dict(self) -> dict[str, Any]:
        """As `--json` prints it."""
        told = {name: value for name, value in asdict(self).items() if name != "is_file"}
        return {name: value for name, value in told.items() if name != "answer" or value is not None}

    def part(self, start: int, end: int) -> Found:
        """A stretch of it, by characters of its text.

        Args:
            start: of the stretch's first character.
            end: of the one behind its last.

        Returns:
            Its citation counts characters, and lines of a file, from the beginning of the document.
        """
        line = self.line + self.text.count("\n", 0, start) if self.is_file else self.line
        return replace(
            self, line=line, start=self.start + start, end=self.start + end, text=self.text[start:end]
        )


class Index:
    """An index of documents, or of questions with their answers.

    Args:
        path: the folder that `shuyuan index` made.
        key: where the vault's key is, if the index is sealed.

    Attributes:
        pairs: whether it holds questions with their answers.
        matching: of pairs: how sure an answer is, and when to hand over.

    Raises:
        RunError: the folder holds no index, or one that is not finished.
        DataError: the index was made by another version, or is damaged.
        VaultError: it does not open with this key, or was tampered with.

    Example:
        >>> shuyuan.open_index("notes.index").search("when are refunds paid?")  # doctest: +SKIP
    """

    def __init__(self, path: str | Path, key: str | None = None) -> None:
        run = Run(path)
        if not folder.is_index(run.path):
            raise folder.not_an_index(run.path)
        self._store = open_store(run, key, writable=False)
        contents = folder.read(self._store)
        self.manifest = contents.manifest
        self.scoring = contents.scoring
        self._places = contents.passages
        self.pairs = bool(self.manifest["pairs"])
        self.matching = folder.matching_of(self._store, self.manifest) if self.pairs else None

    def __len__(self) -> int:
        return self.scoring.passages

    @property
    def documents(self) -> list[str]:
        """The names of the documents, in order."""
        return list(self._places.names)

    def search(self, question: str, top: int = 5) -> list[Found]:
        """The passages that fit a question best, the best first; fewer where fewer share a word with it.

        Args:
            question: words, or a whole sentence.
            top: how many.

        Returns:
            Passages with the name of their document, line, characters, score and text.
        """
        scores_N = self.scoring.scores(self._asked(question))
        found = best(scores_N, top)
        return self.passages({number: float(scores_N[number]) for number in found})

    def vote(self, question: str) -> Vote:
        """Which answer the most similar questions say, of pairs.

        Args:
            question: words, or a whole sentence.

        Returns:
            The number of the answer, -1 where no question shares a word; the most similar question with it; and 0 to 1, how much speaks for it.
        """
        return vote(self.scoring, self._places.answer_N, self._asked(question))

    def _asked(self, question: str) -> list[str]:
        return asked(question, of_questions=self.pairs)

    def passages(self, scores: dict[int, float]) -> list[Found]:
        """Passages by their number, each with its score.

        Args:
            scores: the score to tell of each, by the passage's number from 0 to `len(index)` - 1.

        Raises:
            DataError: the file of texts is damaged.
            VaultError: it was tampered with.
        """
        with self._store.open(folder.TEXTS) as reader:
            return [self._found(number, score, reader) for number, score in scores.items()]

    def _found(self, number: int, score: float, reader: Reader) -> Found:
        places = self._places
        answer = int(places.answer_N[number])
        return Found(
            places.names[places.document_N[number]],
            int(places.line_N[number]),
            int(places.start_N[number]),
            int(places.end_N[number]),
            score,
            self._text(number, reader),
            places.answers[answer] if answer >= 0 else None,
            bool(places.is_file_N[number]),
        )

    def _text(self, number: int, reader: Reader) -> str:
        start, end = map(int, self._places.bytes_N1[number : number + 2])
        try:
            return reader.read_at(start, end - start).decode("utf-8", "surrogatepass")
        except UnicodeDecodeError:
            raise folder.damaged(self._store.path / folder.TEXTS, "it is not UTF-8") from None
