"""What recurrent models of Keras reach."""

from __future__ import annotations

from .page import Page, median, validation_loss

PAGE = Page(
    {
        "parameters": median(lambda run: run.result["parameters"]),
        "every-loss": median(validation_loss),
        "last-loss": median(validation_loss),
        "lstm-loss": median(validation_loss),
        "epsilon-loss": median(validation_loss),
    },
)
