"""How a model lies over several devices, and what that costs: memory of each, and seconds of a step.

Shuyuan itself trains data parallel, with weights, gradients and optimizer sharded over all devices (FSDP2, ZeRO stage 3): each
holds 1/n of them, gathers one block's weights at a time in half precision, and computes its share of the batch; for each physical
batch the weights travel twice and the gradients once, unless there is room for them to stay for the whole step. Where one node
alone has room for the states, each node holds them all, so that only gradients travel between nodes. So that published runs can be judged, a layout may also split each
matrix over a node's devices (tensor) and the blocks over groups of devices (pipeline), as Megatron-LM does.

References: Rajbhandari et al., "ZeRO", SC 2020 (arXiv 1910.02054); Zhao et al., "PyTorch FSDP", VLDB 2023 (arXiv 2304.11277);
Narayanan et al., "Efficient large-scale language model training", SC 2021 (arXiv 2104.04473); Korthikanti et al., "Reducing
activation recomputation", MLSys 2023 (arXiv 2205.05198), for the bytes of activations.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from ..errors import MachineError
from ..hardware import Machines
from ..models import ImageConfig, TransformerConfig
from ..train.resolve import Costs
from .cost import block_matrix_parameters, train_flops_per_token
from .memory import Held
from .time import FORWARD_AGAIN, GPU_PASSES

SHARDED = ("weights", "optimizer", "gradients", "half-precision weights")
HALF = 2  # bytes of a number that travels
# Shares of a device's memory: that gathered weights and gradients may fill for a whole step, and that a node's states may.
ROOM_TO_STAY, ROOM_FOR_STATES = 0.25, 0.4
GATHERED_BLOCKS = 2  # the one at work and the next
NETWORK_BYTES_PER_SECOND = 25e9  # of each device to other nodes, one way: 200 Gbit/s, as large clusters have
# Bytes a parameter with a distributed optimizer: half-precision weight and float32 gradient; master copy and both moments.
WEIGHT_BYTES, GRADIENT_BYTES, OPTIMIZER_BYTES = 2, 4, 12
WHOLE, SPLIT = (
    10 / 34,
    24 / 34,
)  # of a block's activations: what each device of a tensor group keeps whole, and what it splits
UNFUSED = 5  # bytes of a weight of attention: scores, softmax, what is dropped of it
ALL_REDUCES = (
    4 * 2 * HALF
)  # bytes for each token, block and column that travel in a tensor group: four, there and back
# Of what travels while something is computed, or the reverse, what does not hide behind it: fitted to 77 throughputs of 16 to 512 GPUs
# in the tables that planning/time.py names.
EXPOSED = 0.3
# The share of the time that a run really trains: the rest goes to failures, restarts and waiting. Steady rates beside what all hours
# together give: BLOOM on 384 GPUs 0.89, Llama 3.1 405B on 16,384 0.89, PaLM on 6,144 chips 0.65; on one node hardly anything is lost.
GOODPUT = ((8, 1.0), (64, 0.95), (512, 0.89), (2048, 0.83), (10**9, 0.77))


@dataclass(frozen=True)
class Layout:
    """Degrees of model parallelism.

    Attributes:
        tensor: devices that share each matrix, all in one node.
        pipeline: groups of devices that have the blocks in turn.
        recompute: whether activations are given up and computed again in the backward pass.
        unfused: whether attention's weights pass through memory, as in all runs before FlashAttention (May 2022).
    """

    tensor: int = 1
    pipeline: int = 1
    recompute: bool = False
    unfused: bool = False

    @property
    def model(self) -> int:
        """Devices that hold one copy of the model."""
        return self.tensor * self.pipeline


def layout(text: str, machines: Machines) -> Layout:
    """Reads what `--layout` was given, such as "tensor=8,pipeline=16,recompute".

    Args:
        text: words set apart by commas; none: the model lies whole on each device.
        machines: what it lies on.

    Raises:
        MachineError: a word is unknown, or the degrees do not fit the machines.
    """
    found = Layout()
    for word in filter(None, (part.strip() for part in text.split(","))):
        degree = re.fullmatch(r"(tensor|pipeline)\s*=\s*([1-9]\d{0,5})", word)
        if word in ("recompute", "unfused"):
            found = replace(found, **{word: True})
        elif degree:
            number = int(degree[2])
            found = (
                replace(found, tensor=number) if degree[1] == "tensor" else replace(found, pipeline=number)
            )
        else:
            raise _refused(f"{word!r} is not understood")
    if found.tensor > machines.each or machines.each % found.tensor:
        raise _refused(f"tensor = {found.tensor} does not divide the {machines.each} devices of a node")
    if machines.devices % found.model:
        raise _refused(f"{machines.devices} devices are no multiple of tensor times pipeline, {found.model}")
    return found


def _refused(what: str) -> MachineError:
    return MachineError(
        "machine.bad-layout",
        f"The layout is refused: {what}.",
        where="--layout",
        mend="Write for example tensor=8,pipeline=16,recompute; tensor within a node, and their product a divisor of all devices.",
    )


# ---- memory ----------------------------------------------------------------------------------------------------------


def held_by_each(
    config: TransformerConfig | ImageConfig, machines: Machines, layout: Layout, parts: int, tokens: int
) -> Held:
    """What one device among several holds of the parts of a step's memory.

    Args:
        config: the model.
        machines: how many there are.
        layout: how the model lies over them.
        parts: physical batches a step in each replica.
        tokens: of one of them.
    """

    def held(items: dict[str, int]) -> dict[str, int]:
        items = dict(items)
        if layout.model > 1:
            items |= _of_states(config.parameters, layout.model, machines.devices // layout.model)
            items.pop("half-precision weights", None)
            if "logits and head" in items:
                items["logits and head"] //= layout.tensor
        elif machines.devices > 1 and not items.get("quantised base"):  # each holds all codes
            group = sharing(config, machines)
            items |= {name: items[name] // group for name in SHARDED if name in items}
            items["gathered blocks"] = gathered_bytes(config)
        if "activations" in items:
            items["activations"] = _activations(items["activations"], config, layout, parts, tokens)
        return items

    return held


def sharing(config: TransformerConfig | ImageConfig, machines: Machines) -> int:
    """How many devices share one copy of the states: those of a node if they have room for it, else all.

    Args:
        config: the model.
        machines: how many there are, and what each is.
    """
    states = (WEIGHT_BYTES + GRADIENT_BYTES + OPTIMIZER_BYTES) * config.parameters / machines.each
    return machines.each if states < ROOM_FOR_STATES * machines.hardware.memory_bytes else machines.devices


def _of_states(parameters: int, model: int, replicas: int) -> dict[str, int]:
    each = parameters // model
    return {
        "weights": WEIGHT_BYTES * each,
        "gradients": GRADIENT_BYTES * each,
        "optimizer": OPTIMIZER_BYTES * each // replicas,
    }


def _activations(
    kept: int, config: TransformerConfig | ImageConfig, layout: Layout, parts: int, tokens: int
) -> int:
    """The first group of a pipeline has begun as many physical batches as there are groups before the first comes back."""
    if isinstance(config, ImageConfig):
        return kept
    if layout.unfused:
        kept += UNFUSED * attention_weights(config) * tokens
    begun = min(layout.pipeline, parts) / layout.pipeline
    if layout.recompute:
        inputs = HALF * tokens * config.width * config.layers
        return round(inputs * begun + kept / config.layers)
    return round(kept * (WHOLE + SPLIT / layout.tensor) * begun)


def gathered_bytes(config: TransformerConfig | ImageConfig) -> int:
    """Whole weights on each device for a moment: two blocks and their gradients, or the embedding if that is larger.

    Args:
        config: the model.
    """
    if isinstance(config, ImageConfig):
        return HALF * config.parameters
    block = block_matrix_parameters(config) // max(1, config.layers)
    return HALF * max(2 * GATHERED_BLOCKS * block, 2 * config.vocab_size * config.width)


# ---- time ------------------------------------------------------------------------------------------------------------


def costs_together(
    costs: Costs,
    config: TransformerConfig | ImageConfig,
    machines: Machines,
    layout: Layout,
    parts: int,
    tokens: int,
) -> Costs:
    """The seconds of a step on all devices, from those of one that computes a replica's share of the batch alone.

    Args:
        costs: of one device.
        config: the model.
        machines: how many, and how they are linked.
        layout: how the model lies over them.
        parts: physical batches a step in each replica.
        tokens: of one of them.
    """
    step = costs.step - costs.update
    if layout.unfused:
        passing = UNFUSED * attention_weights(config) * parts * tokens
        step += GPU_PASSES * passing / machines.rates.memory_bytes_per_second
    if layout.recompute:
        step *= 1 + FORWARD_AGAIN * _share_of_blocks(config)
    if machines.devices > 1 and machines.accelerator is not None:
        near = machines.accelerator.link_bytes_per_second
        far = near if machines.nodes == 1 else min(near, NETWORK_BYTES_PER_SECOND)
        if layout.model == 1:
            travelling = _travelling_seconds(config, machines, parts, near, far)
        else:
            bubble = 1 + (layout.pipeline - 1) / parts
            step = step / layout.model * bubble + parts * _tensor_seconds(config, layout, tokens, near)
            travelling = (HALF + GRADIENT_BYTES) * config.parameters / layout.model / far
        step = max(step, travelling) + EXPOSED * min(step, travelling)
    group = machines.devices if layout.model > 1 else sharing(config, machines)
    step += costs.update / group
    return replace(costs, step=step / goodput(machines.devices), checkpoint=costs.checkpoint / machines.nodes)


def attention_weights(config: TransformerConfig | ImageConfig) -> int:
    """The attention's weights of one token in all blocks; none in a network for images.

    Args:
        config: the model.
    """
    return 0 if isinstance(config, ImageConfig) else config.layers * config.heads * config.context


def _share_of_blocks(config: TransformerConfig | ImageConfig) -> float:
    """Of a step's operations."""
    if isinstance(config, ImageConfig):
        return 1.0
    head = 6 * config.head[0] * config.head[1] * config.width / config.context
    return 1 - head / train_flops_per_token(config)


def _travelling_seconds(
    config: TransformerConfig | ImageConfig, machines: Machines, parts: int, near: float, far: float
) -> float:
    """Weights and gradients of one step."""
    group = sharing(config, machines)
    times = 1 if _stays(config, machines) else parts
    within = times * 3 * HALF * config.parameters / (near if group == machines.each else far)
    between = 2 * GRADIENT_BYTES * config.parameters / group / far if group < machines.devices else 0.0
    return within + between


def _stays(config: TransformerConfig | ImageConfig, machines: Machines) -> bool:
    """Whether the weights gathered for the first physical batch of a step can stay until its last."""
    gathered = (HALF + GRADIENT_BYTES) * config.parameters
    return gathered < ROOM_TO_STAY * machines.hardware.memory_bytes


def _tensor_seconds(
    config: TransformerConfig | ImageConfig, layout: Layout, tokens: int, link: float
) -> float:
    """All-reduces of one physical batch in a tensor group: nothing hides them."""
    if layout.tensor == 1 or isinstance(config, ImageConfig):
        return 0.0
    share = (layout.tensor - 1) / layout.tensor
    return ALL_REDUCES * share * tokens * config.width * config.layers / layout.pipeline / link


def goodput(devices: int) -> float:
    """The share of the time that a run of so many devices really trains.

    Args:
        devices: all of them.
    """
    return next(share for most, share in GOODPUT if devices <= most)
