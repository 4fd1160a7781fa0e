"""Compiles the blocks of a transformer with torch.compile, so that what is not a product is done in few passes over memory.

Nothing is kept between runs: torch's own cache holds pickles, and lies in a folder whose name others can guess.

Reference: Ansel et al. 2024, PyTorch 2 (https://docs.pytorch.org/docs/stable/torch.compiler.html).
"""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from importlib.util import find_spec

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import TrainError
from ..models import Transformer
from ..models.functions import LEARN_NOTHING
from .blocks import blocks_of

COMPILERS = ("g++", "clang++", "c++")


def compile_blocks(model: nn.Module, device: str) -> None:
    """Has each block of a model compiled when it is first computed; all of one shape share what is compiled.

    Args:
        model: with its blocks in an `nn.ModuleList`; its parameters keep their names.
        device: "cpu" or "cuda", where it computes.

    Raises:
        TrainError: nothing here can compile, or the model has no blocks.
    """
    _check(device)
    blocks = blocks_of(model, "train.compile")
    _keep_nothing()
    for block in blocks:
        block.forward = torch.compile(block.forward)
    if device == "cuda" and isinstance(model, Transformer):
        model.cross_entropy = torch.compile(_cross_entropy)


def _cross_entropy(logits_NV: Tensor, targets_N: Tensor) -> Tensor:
    """`functions.cross_entropy`, of which the compiler makes one pass over the logits; on a CPU that one's pieces are as fast."""
    return F.cross_entropy(logits_NV.float(), targets_N, reduction="none", ignore_index=LEARN_NOTHING)


def _check(device: str) -> None:
    compiler = os.environ.get("CXX")
    there = shutil.which(compiler) if compiler else any(map(shutil.which, COMPILERS))
    if device == "cuda" and find_spec("triton") is None:
        missing, mend = "Triton is not installed", "Install it: pip install triton"
    elif device == "cpu" and not there:
        missing, mend = "there is no C++ compiler", "Install one, such as Debian's g++"
    else:
        return
    raise TrainError(
        "train.no-compiler",
        f"Blocks cannot be compiled: {missing}.",
        where="train.compile",
        mend=f"{mend}, or leave train.compile out: the result is the same but for rounding.",
    )


def _keep_nothing() -> None:
    from torch._inductor import config

    config.force_disable_caches = True
    if "TORCHINDUCTOR_CACHE_DIR" not in os.environ:
        folder = tempfile.mkdtemp(prefix="shuyuan-compiled-")
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = folder
        os.environ.setdefault("TRITON_CACHE_DIR", f"{folder}/triton")
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
