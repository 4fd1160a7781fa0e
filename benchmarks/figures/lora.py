"""What LoRA learns, forgets and keeps."""

from __future__ import annotations

import json

from .page import Measure, Page, checkpoint_bytes, median, peak_gigabytes, validation_loss
from .running import Finished

BASE = "lora-base"  # of the run that all but the wide ones start from


def learned_with_lora(run: Finished) -> float:
    return float(json.loads((run.folder / "plan.json").read_text())["lora"]["parameters"])


def loss_on_file(run: Finished) -> float:
    return float(run.result["scores"]["loss"])


MEASURES: dict[str, Measure] = {
    "lora-base": median(lambda run: run.result["parameters"]),
    "before": median(loss_on_file),
    "full": median(validation_loss),
    "slow": median(validation_loss),
    **{f"rank-{rank}": median(validation_loss) for rank in (1, 4, 16, 64)},
    "rank-16-learned": median(learned_with_lora),
    "int4": median(validation_loss),
    "old-base": median(loss_on_file),
    "old-full": median(loss_on_file),
    "old-lora": median(loss_on_file),
    "private-full": median(validation_loss),
    "private-lora": median(validation_loss),
    "wide-parameters": median(lambda run: run.result["parameters"]),
    "wide-full-memory": median(lambda run: 1000 * peak_gigabytes(run)),
    "wide-lora-memory": median(lambda run: 1000 * peak_gigabytes(run)),
    "wide-int4-memory": median(lambda run: 1000 * peak_gigabytes(run)),
    "wide-full-checkpoint": median(lambda run: checkpoint_bytes(run) / 1e6),
    "wide-lora-checkpoint": median(lambda run: checkpoint_bytes(run) / 1e6),
}
PAGE = Page(
    MEASURES,
    needs={key: [BASE] for key in MEASURES if not key.startswith("wide-") and key != BASE}
    | {"old-full": [BASE, "full"], "old-lora": [BASE, "rank-16"]}
    | {"wide-int4-memory": ["wide-parameters"]}
    | {
        f"wide-{way}-{what}": ["wide-parameters"]
        for way in ("full", "lora")
        for what in ("memory", "checkpoint")
    },
)
