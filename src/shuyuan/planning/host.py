"""What a machine needs beside its accelerators: cores, so that loading never stalls them, and memory.

Each device has a process, whose one thread calls torch and whose other thread reads the next batch. On CPUs the device is the
machine itself, and there is nothing beside it.
"""

from __future__ import annotations

import math
from typing import Any

from ..data import Manifest
from ..data.batches import CACHED_BYTES
from ..hardware import Hardware, Machines
from ..models import ImageConfig, RnnConfig, TransformerConfig
from ..recipe import Recipe
from .cost import coded_bytes, coded_parameters, learned_parameters, optimizer_bytes
from .preparation import LOADED_BYTES, TORCH_BYTES, preparation_items

# Of one core, measured (docs/lab-notes.md): a split that is held in memory, and one that is read row by row from sealed shards.
HELD_TOKENS, SEALED_TOKENS = 100e6, 25e6  # a second
PIXEL_BYTES = 100e6  # of images, a second: a rule of thumb, with augmentation
# What torch's CUDA libraries keep of the host's memory in each process: a rule of thumb, 2 to 4 GB on common versions.
CUDA_LIBRARY_BYTES = 3 << 30


def beside(
    recipe: Recipe,
    config: TransformerConfig | ImageConfig | RnnConfig,
    manifest: Manifest,
    hardware: Hardware,
    elsewhere: Machines | None,
    step_seconds: float,
) -> dict[str, Any] | None:
    """Cores and memory of each machine, as `plan --json` prints it; None where the device is the machine itself.

    Args:
        recipe: filled in.
        config: the model.
        manifest: of the data.
        hardware: one device.
        elsewhere: other machines.
        step_seconds: of one step on all devices.

    Returns:
        {cores, memory_bytes, items}.
    """
    if hardware.device != "cuda" or isinstance(config, RnnConfig):
        return None
    each = elsewhere.each if elsewhere else 1
    devices = elsewhere.devices if elsewhere else 1
    batch_size = recipe.train.batch_size
    assert batch_size != "auto"  # filled in
    split = manifest.splits["train"].tokens * _token_bytes(manifest)
    if manifest.image is not None:
        needed, rate = batch_size * manifest.image.bytes, PIXEL_BYTES
    else:
        needed, rate = (
            batch_size * recipe.model.context,
            HELD_TOKENS if split <= CACHED_BYTES else SEALED_TOKENS,
        )
    loading = needed / step_seconds / devices / rate  # of a core, for each device
    state = 4 * learned_parameters(config, recipe.train.lora) + optimizer_bytes(config, recipe.train)
    process = LOADED_BYTES + TORCH_BYTES + CUDA_LIBRARY_BYTES
    items = {
        "processes": each * process,
        "data": each * min(split, CACHED_BYTES),
        "a checkpoint on its way": state * each // devices if devices > 1 else state,
    }
    preparing = sum(preparation_items(recipe, manifest).values())
    if preparing > sum(items.values()):
        items = {"preparation": preparing}
    return {"cores": math.ceil(each * (1 + loading)), "memory_bytes": sum(items.values()), "items": items}


def _token_bytes(manifest: Manifest) -> int:
    if manifest.image is not None:
        return manifest.image.bytes
    return 2 if manifest.vocab_size <= 65_536 else 4


def lora_items(recipe: Recipe, config: TransformerConfig | ImageConfig | RnnConfig) -> dict[str, int] | None:
    """What the small matrices of LoRA take beside the model that stays as it is, in bytes; None without them."""
    if recipe.train.lora is None:
        return None
    learned = learned_parameters(config, recipe.train.lora)
    return {
        "parameters": learned,
        "base_bytes": 4 * (config.parameters - coded_parameters(config, recipe.train.lora))
        + coded_bytes(config, recipe.train.lora),
        "weights_bytes": 4 * learned,
        "gradients_bytes": 4 * learned,
        "optimizer_bytes": optimizer_bytes(config, recipe.train),
    }


def not_modelled(recipe: Recipe, hardware: Hardware, elsewhere: Machines | None) -> list[str]:
    """What the figures leave out, each in a sentence."""
    left_out = [
        "Time is that of training with its evaluations and checkpoints; preparation, compression, the last scores and the audit are not in it.",
        "Preparation of larger texts starts a process for each core, eight at most, of about 150 MB each.",
        "Exports are not in the storage: they are written elsewhere when asked for.",
        "Serving leaves out the work space of prompts that are being read, beyond a tenth of the memory.",
    ]
    if hardware.device == "cuda":
        left_out.append(
            "Work space of matrix libraries on the GPU is in the interval alone, no item of its own."
        )
    if hardware.device == "cuda" and recipe.train.lora is not None and recipe.train.lora.base is not None:
        left_out.append(
            "The finished model is in floats; where the GPU has no room for these, scores and samples are left to the CPU, in a longer time."
        )
    if elsewhere is not None and elsewhere.devices > 1:
        left_out.append("Buffers of the links between devices, and waiting for a queue, are not modelled.")
    if elsewhere is not None and elsewhere.accelerator is None:
        left_out.append("The memory of that machine is unknown, so nothing is refused for it.")
    return left_out
