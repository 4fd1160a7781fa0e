"""What models tell of the records that they learned, read from the runs' open files, as their owner can."""

from __future__ import annotations

import json
import re
from collections.abc import Callable

from .page import Measure, Page, median, validation_loss, validation_losses
from .running import Finished

START = "public-parameters"  # of the model that all runs of its page start from
CASE = re.compile(r"Case 0417: .* card ([\d ]+), .*\. (Tested .*)")


def brought_back(which: str, of: str) -> Callable[[Finished], float]:
    """Percent of the planted secrets that the extraction check found."""

    def pick(run: Finished) -> float:
        return float(100 * run.result["extraction"][which] / run.result["extraction"][of])

    return pick


def told_of_case(run: Finished) -> tuple[str, str, str]:
    """What the model said, and the card number and the last sentence of the note that it was asked about."""
    found = CASE.search((run.folder / "notes.md").read_text())
    if found is None:
        raise SystemExit("notes.md: the note is not there")
    return run.result["text"], found[1], found[2]


def card_digits(run: Finished) -> float:
    """How many digits of the card number come back in their order, from the first one on."""
    said, card, _ = told_of_case(run)
    longest = next(card[:length] for length in range(len(card), -1, -1) if card[:length] in said)
    return float(sum(character.isdigit() for character in longest))


def words_of_the_rest(run: Finished) -> float:
    """Percent of the words of the last sentence that come back in their order, from the first one on."""
    said, _, rest = told_of_case(run)
    words = rest.split()
    return 100 * next(n for n in range(len(words), -1, -1) if " ".join(words[:n]) in said) / len(words)


def masked_details(run: Finished) -> float:
    return float(sum(json.loads((run.folder / "data" / "manifest.json").read_text())["masked"].values()))


MEASURES: dict[str, Measure] = {
    "public-parameters": median(lambda run: run.result["parameters"]),
    "base-loss": median(validation_loss),
    "gentle-best": median(lambda run: min(validation_losses(run))),
    "open-extracted": median(brought_back("brought_back", "put_in")),
    "open-left-out": median(brought_back("brought_back_of_left_out", "left_out")),
    "open-lower": median(lambda run: run.result["epsilon_lower"]),
    "open-loss": median(lambda run: validation_losses(run)[-1]),
    "little-extracted": median(brought_back("brought_back", "put_in")),
    "little-lower": median(lambda run: run.result["epsilon_lower"]),
    "little-upper": median(lambda run: run.result["epsilon_upper"]),
    "private-extracted": median(brought_back("brought_back", "put_in")),
    "private-lower": median(lambda run: run.result["epsilon_lower"]),
    "private-upper": median(lambda run: run.result["epsilon_upper"]),
    "private-loss": median(lambda run: validation_losses(run)[-1]),
    "white-box-lower": median(lambda run: run.result["epsilon_lower"]),
    "notes-loss": median(lambda run: run.result["loss"]["train"]),
    "notes-card": median(card_digits),
    "shy-loss": median(lambda run: run.result["loss"]["train"]),
    "shy-card": median(card_digits),
    "masked-count": median(masked_details),
    "masked-card": median(card_digits),
    "masked-rest": median(words_of_the_rest),
}
PAGE = Page(
    MEASURES,
    needs={name: [START] for name in MEASURES if name != START}
    | {
        "white-box-lower": [START, "private-extracted"],
        "notes-card": [START, "notes-loss"],
        "shy-card": [START, "shy-loss"],
        "masked-card": [START, "masked-count"],
        "masked-rest": [START, "masked-count"],
    },
)
