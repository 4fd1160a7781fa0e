"""What training and evaluation read of a split."""

from __future__ import annotations

from ..vault import Store
from .batches import Sliding, Windows
from .images import Images
from .manifest import Manifest
from .prompt_rows import PromptRows
from .rows import Rows
from .span_rows import SpanRows


def open_split(
    store: Store, manifest: Manifest, split: str, context: int, *, last: bool = False
) -> Windows | Rows | PromptRows | SpanRows | Images:
    """A split as it is trained on: images, rows of labelled records, of prompts and answers or of questions and texts, or windows
    of the token stream.

    Args:
        store: the run's files.
        manifest: what was prepared.
        split: its name.
        context: tokens of a window, and the most of a row; images have none.
        last: for a model that predicts the token after a window alone: windows that end at every token.
    """
    if manifest.image is not None:
        return Images(store, manifest, split)
    if manifest.pair is not None:
        return SpanRows(store, manifest, split, context)
    if manifest.prompted:
        return PromptRows(store, manifest, split, context)
    kind = Rows if manifest.labels else Sliding if last else Windows
    return kind(store, manifest, split, context)
