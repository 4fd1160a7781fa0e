"""Several devices: data parallel, with weights, gradients and optimizer sharded over all of them (FSDP2, ZeRO stage 3).

Each device holds 1/n of the states, gathers one block's weights at a time in half precision, and computes its share of the
batch. For each physical batch the weights travel twice (forward and backward) and the gradients once.

References: Rajbhandari et al., "ZeRO", SC 2020 (arXiv 1910.02054); Zhao et al., "PyTorch FSDP", VLDB 2023 (arXiv 2304.11277).
"""

from __future__ import annotations

from dataclasses import replace

from ..hardware import Machines
from ..models import ImageConfig, TransformerConfig
from ..train.resolve import Costs
from .cost import block_matrix_parameters
from .memory import Interval, Memory

SHARDED = ("weights", "optimizer", "gradients", "half-precision weights")
HALF = 2  # bytes of a number that travels
GATHERED_BLOCKS = 2  # the one at work and the next
NETWORK_BYTES_PER_SECOND = 25e9  # of each device to other nodes, one way: 200 Gbit/s, as large clusters have
# The share of the time that a run really trains: the rest goes to failures, restarts and waiting. Large published runs lost
# 10 to 35 % (PaLM, Llama 3.1 405B, BLOOM); small ones hardly any.
GOODPUT = ((8, 1.0), (64, 0.97), (512, 0.93), (2048, 0.88), (10**9, 0.82))


def memory_of_each(memory: Memory, config: TransformerConfig | ImageConfig, devices: int) -> Memory:
    """The memory of one device among several, from that of a device alone with its share of the batch."""
    if devices == 1:
        return memory
    items = {name: size // devices if name in SHARDED else size for name, size in memory.items.items()}
    items["gathered blocks"] = gathered_bytes(config)
    saved = memory.peak.expected - sum(items.values())
    peak = memory.peak
    return Memory(items, Interval(*(max(0.0, size - saved) for size in (peak.low, peak.expected, peak.high))))


def gathered_bytes(config: TransformerConfig | ImageConfig) -> int:
    """Whole weights on each device for a moment: two blocks and their gradients, or the embedding if that is larger."""
    if isinstance(config, ImageConfig):
        return HALF * config.parameters
    block = block_matrix_parameters(config) // max(1, config.layers)
    return HALF * max(2 * GATHERED_BLOCKS * block, 2 * config.vocab_size * config.width)


def costs_together(
    costs: Costs, config: TransformerConfig | ImageConfig, machines: Machines, parts: int
) -> Costs:
    """The seconds of a step on all devices, from those of one with its share of the batch.

    Args:
        costs: of one device.
        config: the model.
        machines: how many, and how they are linked.
        parts: physical batches a step on each device.
    """
    if machines.devices == 1 or machines.accelerator is None:
        return costs
    link = machines.accelerator.link_bytes_per_second
    if machines.nodes > 1:
        link = min(link, NETWORK_BYTES_PER_SECOND)
    share = (machines.devices - 1) / machines.devices
    travelling = 3 * HALF * config.parameters * share / link
    # Communication hides behind computing as far as it is shorter.
    return replace(
        costs,
        step=max(costs.step, parts * travelling) / goodput(machines.devices),
        checkpoint=costs.checkpoint / machines.nodes,
    )


def goodput(devices: int) -> float:
    """The share of the time that a run of so many devices really trains."""
    return next(share for most, share in GOODPUT if devices <= most)
