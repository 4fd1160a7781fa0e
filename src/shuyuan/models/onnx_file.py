"""A network for images or a classifier of texts as an ONNX file, for onnxruntime; by torch's own exporter.

Shapes: B images or texts, T tokens of a row, K classes; C channels, H and W height and width of an image.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from ..errors import ShuyuanError, missing_extra
from .image_config import ImageConfig

OPSET = 18


def write_onnx(path: Path, model: Any) -> None:
    """Writes a model that tells labels apart: `pixels` uint8 (B, C, H, W), or `tokens` int64 (B, T), -1 where no token is; out come
    `logits` float32 (B, K).

    Args:
        path: the file to make.
        model: the network, on the CPU.

    Raises:
        MachineError: the library is not installed.
        ShuyuanError: the model tells no labels, or does what ONNX has no words for.
    """
    if model.config.output != "labels":
        raise _refused("it tells no labels")
    try:
        import onnxscript  # noqa: F401 - torch's exporter writes by it
    except ImportError:
        raise missing_extra("Writing ONNX", "export") from None
    config, axes = model.config, {0: torch.export.Dim("batch", min=1, max=2**16)}
    if isinstance(config, ImageConfig):
        name = "pixels"
        example = torch.zeros((2, config.channels, config.height, config.width), dtype=torch.uint8)
    else:
        name, example = "tokens", torch.zeros((2, max(2, min(8, model.context))), dtype=torch.int64)
        axes[1] = torch.export.Dim("length", min=1, max=model.context)
    with _quiet(), torch.no_grad():
        program: Any = torch.onnx.export(
            model.eval(),
            (example,),
            dynamo=True,
            input_names=[name],
            output_names=["logits"],
            dynamic_shapes=(axes,),
            opset_version=OPSET,
            verbose=False,
        )
    program.save(str(path))


@contextmanager
def _quiet() -> Iterator[None]:
    """What the exporter says of itself is of no use to people."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _refused(why: str) -> ShuyuanError:
    return ShuyuanError(
        "models.no-onnx",
        f"The model is not written as ONNX: {why}.",
        where="--as onnx",
        mend="Export it as huggingface, or, if it writes text, as gguf.",
    )
