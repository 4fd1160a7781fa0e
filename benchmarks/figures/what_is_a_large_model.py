"""How loss falls with size and text, and how four families compare."""

from __future__ import annotations

from .page import Page, median, validation_loss, validation_losses

SIZES = ((32, 100), (32, 300), (32, 600), (64, 100), (64, 300), (128, 300), (128, 600))  # width, steps
HEART_WIDTHS = (32, 128, 256)
FAMILIES = ("gpt2", "llama", "glm", "qwen3")

PAGE = Page(
    {
        **{f"loss-{width}-{steps}": median(validation_loss) for width, steps in SIZES},
        **{f"parameters-{width}": median(lambda run: run.result["parameters"]) for width in (32, 64, 128)},
        **{f"heart-{width}": median(validation_loss) for width in HEART_WIDTHS},
        **{f"heart-{width}-best": median(lambda run: min(validation_losses(run))) for width in HEART_WIDTHS},
        **{f"heart-{width}-train": median(lambda run: run.result["loss"]["train"]) for width in (32, 256)},
        **{f"decayed-{width}": median(validation_loss) for width in HEART_WIDTHS},
        "strong-256": median(validation_loss),
        **{f"family-{name}": median(validation_loss) for name in FAMILIES},
        "fit-error": median(lambda run: 100 * run.result["error"]),
        "fit-parameters": median(lambda run: run.result["best"][1]["parameters"]),
        "fit-tokens": median(lambda run: run.result["best"][1]["tokens"]),
    },
    needs={
        **{key: [f"loss-{w}-{n}" for w, n in SIZES] for key in ("fit-error", "fit-parameters", "fit-tokens")},
        **{f"family-{name}": ["loss-128-300"] for name in FAMILIES},
    },
)
