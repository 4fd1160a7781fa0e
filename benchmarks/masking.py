"""Precision and recall of masking on presidio's synthetic personal data, kind by kind.

Usage: python benchmarks/masking.py [../shared/data/privacy/presidio_synthetic_pii.json]

A labelled span counts as found when the masked spans of its kind cover at least half of it; a masked span counts as right
when at least half of it lies in labelled spans of its kind. The data set knows no Chinese text and no resident ids.
"""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from pathlib import Path

from shuyuan.data.masking import Masker

LABELS = {
    "EMAIL_ADDRESS": "email",
    "PHONE_NUMBER": "phone",
    "CREDIT_CARD": "card",
    "IBAN_CODE": "iban",
    "IP_ADDRESS": "ip",
    "US_SSN": "national-id",
}
DEFAULT = Path(__file__).parents[1] / "../shared/data/privacy/presidio_synthetic_pii.json"


def covered(start: int, end: int, spans: list[tuple[int, int]]) -> bool:
    inside = sum(max(0, min(end, other_end) - max(start, other)) for other, other_end in spans)
    return inside * 2 >= end - start


def measure(path: Path, show: bool = False) -> dict[str, dict[str, float]]:
    """Precision, recall and counts of each kind."""
    masker = Masker(LABELS.values(), {})
    labelled, found, masked, right = Counter(), Counter(), Counter(), Counter()
    for record in json.loads(path.read_text(encoding="utf-8")):
        text = record["full_text"]
        truth = [
            (span["start_position"], span["end_position"], LABELS[span["entity_type"]])
            for span in record["spans"]
            if span["entity_type"] in LABELS
        ]
        spans = masker.find(text)
        for start, end, kind in truth:
            labelled[kind] += 1
            hit = covered(start, end, [(span.start, span.end) for span in spans if span.kind == kind])
            found[kind] += hit
            if show and not hit:
                print("missed", kind, repr(text[start:end]), "in", repr(text[max(0, start - 40) : end + 20]))
        for span in spans:
            masked[span.kind] += 1
            hit = covered(
                span.start, span.end, [(start, end) for start, end, kind in truth if kind == span.kind]
            )
            right[span.kind] += hit
            if show and not hit:
                print("wrong ", span.kind, repr(text[span.start : span.end]), "in", repr(text))
    return {
        kind: {
            "precision": right[kind] / max(1, masked[kind]),
            "recall": found[kind] / labelled[kind],
            "labelled": labelled[kind],
            "masked": masked[kind],
        }
        for kind in sorted(labelled)
    }


def main() -> None:
    arguments = [argument for argument in sys.argv[1:] if argument != "--show"]
    path = Path(arguments[0]) if arguments else DEFAULT
    begin = time.perf_counter()
    table = measure(path, show="--show" in sys.argv)
    print(f"{'kind':<12} {'precision':>9} {'recall':>7} {'labelled':>9} {'masked':>7}")
    for kind, row in table.items():
        print(
            f"{kind:<12} {row['precision']:>9.3f} {row['recall']:>7.3f} {row['labelled']:>9.0f} {row['masked']:>7.0f}"
        )
    print(
        json.dumps({"benchmark": "masking", "seconds": round(time.perf_counter() - begin, 3), "kinds": table})
    )


if __name__ == "__main__":
    main()
