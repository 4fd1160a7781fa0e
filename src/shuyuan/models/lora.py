"""LoRA: small matrices beside frozen ones, which alone are trained, and which are added to them at the end. peft computes it.

Reference: Hu et al., "LoRA: Low-rank adaptation of large language models", ICLR 2022 (arXiv 2106.09685).
"""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import nn

from ..errors import RecipeError, missing_extra
from ..recipe import Lora
from .config import in_block
from .frozen import FrozenLinear, freeze_matrices
from .hub import Network


def add_lora(model: Network, lora: Lora, seed: int) -> None:
    """Freezes a model and puts low-rank matrices beside those inside its blocks; what is new in it goes on learning.

    Args:
        model: changed in place.
        lora: rank, scale, dropout, which matrices, and whether the model's own are kept as codes.
        seed: start of the new matrices.

    Raises:
        RecipeError: no matrix has one of the names that are asked for, or those of the model cannot be kept as codes.
        MachineError: peft is not installed.
    """
    try:
        from peft import LoraConfig, inject_adapter_in_model
        from peft.tuners.lora import Linear as Adapter
    except ImportError:
        raise missing_extra("LoRA", "huggingface") from None
    matrices = [name for name, module in model.named_modules() if in_block(name + ".") and _is_matrix(module)]
    chosen = [
        name
        for name in matrices
        if not lora.targets or any(f".{target}." in f".{name}." for target in lora.targets)
    ]
    if not chosen:
        there = sorted({name.rsplit(".", 1)[-1] for name in matrices})
        raise RecipeError(
            "models.no-lora-target",
            f"No matrix inside the blocks is called {', '.join(lora.targets) or 'anything'}, or lies in a part called so.",
            where="train.lora.targets",
            mend=f"Leave it out to take all, or name some of: {', '.join(there) or 'none found'}.",
        )
    if lora.bits is not None:
        freeze_matrices(model, lora.bits)
    new = model.new or frozenset()
    config = LoraConfig(
        r=lora.rank,
        lora_alpha=2 * lora.rank if lora.alpha is None else lora.alpha,  # type: ignore[arg-type]
        lora_dropout=lora.dropout,
        target_modules=chosen,
    )
    config._register_custom_module({FrozenLinear: Adapter})
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        # About Conv1D, whose transposed weight peft then handles, and about layers of another class than its own.
        warnings.simplefilter("ignore")
        torch.manual_seed(seed)
        inject_adapter_in_model(config, model)
    for name, weight in model.named_parameters():
        weight.requires_grad_(is_adapter(name) or name in new or _leads_to_the_head(name, bool(new)))


def is_adapter(name: str) -> bool:
    """Whether a weight is one of the small matrices, which the finished model does not have.

    Args:
        name: of the parameter.
    """
    return "lora_" in name


def merge_lora(model: nn.Module) -> None:
    """Adds the low-rank matrices of `add_lora` to those that they stand beside, and takes them away. What is kept as codes stays codes,
    with what was learned beside them: no matrix becomes floats before it is written.

    Args:
        model: with the adapters; an ordinary one afterwards.
    """
    from peft.tuners.tuners_utils import BaseTunerLayer

    for name, module in list(model.named_modules()):
        if isinstance(module, BaseTunerLayer):
            adapter: Any = module
            base = adapter.get_base_layer()
            if isinstance(base, FrozenLinear):
                (own,) = adapter.active_adapters
                base.add(adapter.lora_B[own].weight, adapter.lora_A[own].weight, adapter.scaling[own])
            else:
                adapter.merge()
            parent, _, last = name.rpartition(".")
            setattr(model.get_submodule(parent), last, base)


def _leads_to_the_head(name: str, head_is_new: bool) -> bool:
    """An encoder's pooler stands between its blocks and a head, and was made for another one."""
    return head_is_new and ".pooler." in name


def _is_matrix(module: nn.Module) -> bool:
    """A linear layer, also in the transposed form of GPT-2, or kept as codes."""
    return isinstance(module, nn.Linear | FrozenLinear) or type(module).__name__ == "Conv1D"
