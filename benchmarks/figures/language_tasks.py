"""Scores of tasks, each beside its baseline."""

from __future__ import annotations

from .page import Measure, Page, median
from .running import Finished


def scored(measure: str, scale: float = 1.0) -> Measure:
    """A score of the run's own model, by its split and name."""

    def pick(run: Finished) -> float:
        (variants,) = run.result["scores"].values()
        return scale * float(variants["original"][measure])

    return median(pick)


PAGE = Page(
    {
        "tone-accuracy": scored("validation.accuracy", 100),
        "tone-majority": scored("validation.majority_accuracy", 100),
        "intent-accuracy": scored("test.accuracy", 100),
        "to-chinese": scored("validation.bleu_en_zh"),
        "to-chinese-memory": scored("validation.baseline_memory_bleu_en_zh"),
        "to-english": scored("validation.bleu_zh_en"),
        "to-english-memory": scored("validation.baseline_memory_bleu_zh_en"),
        "plays-loss": scored("validation.loss"),
        "plays-bigram": scored("validation.bigram_loss"),
        "titles-rouge": scored("validation.rouge_l", 100),
        "titles-lead": scored("validation.baseline_lead_rouge_l", 100),
    },
)
