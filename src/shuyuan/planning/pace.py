"""How long this machine's own steps take beside the formula of `time.py`, which was fitted to another's.

Two small steps are computed once, for a second, and what they took is kept with the machine's rates: one whose numbers take the time,
and one that is little more than calling torch.
"""

from __future__ import annotations

import statistics
from dataclasses import replace

from ..hardware import Hardware, Precision, Rates, choose_precision, measured_rates, remembered
from ..models import TransformerConfig
from ..progress import Progress
from ..train.parts import Part
from ..train.resolve import seconds_of
from .time import calling_seconds, computing_seconds

FILE = "pace.json"
FORMAT = 1  # a change of the formula makes what was kept void


def _shape(width: int, hidden: int) -> TransformerConfig:
    return TransformerConfig(
        vocab_size=256,
        end_id=0,
        layers=2,
        width=width,
        heads=4,
        kv_heads=4,
        head_dim=width // 4,
        hidden=hidden,
        context=128,
    )


LARGE = _shape(256, 704), Part(8, 128, 128.0)
SMALL = _shape(64, 176), Part(1, 16, 16.0)
STEPS = 9  # of each, the first two to warm up
LEAST, MOST = 0.5, 3.0  # what is believed
STEADY = 1.25  # the middle one beside the fastest: on a busy machine it is more, and nothing is kept


def measured_pace(hardware: Hardware, progress: Progress) -> Rates:
    """The rates of this machine with its pace, from the cache or measured now.

    Args:
        hardware: the machine that this process runs on.
        progress: shows the measurement, and hears of a cache folder that cannot be written.
    """
    rates = measured_rates(hardware, progress)
    if hardware.device != "cpu":
        return rates
    precision = choose_precision("auto", hardware)

    def measure() -> tuple[dict[str, float], bool]:
        with progress.stage("time two small steps", 2, "steps") as stage:
            small, steady = _seconds(*SMALL, precision)
            stage.advance()
            large, steadily = _seconds(*LARGE, precision)
            stage.advance()
        return pace(small, large, precision, rates), steady and steadily

    found = remembered(FILE, f"{FORMAT}-{precision}", hardware, measure, progress)
    return replace(rates, **found)


def pace(small: float, large: float, precision: Precision, rates: Rates) -> dict[str, float]:
    """{computing, calling}: how many times as long as by the formula.

    Args:
        small, large: seconds of the two steps.
        precision: that they were computed in.
        rates: of its products and its memory.
    """
    computing = calling = 1.0
    for _ in range(3):  # each with what is known of the other
        calling = _share(
            small - computing * computing_seconds(SMALL[1], SMALL[0], precision, rates),
            calling_seconds(SMALL[0], precision),
        )
        computing = _share(
            large - calling * calling_seconds(LARGE[0], precision),
            computing_seconds(LARGE[1], LARGE[0], precision, rates),
        )
    return {"computing": computing, "calling": calling}


def _share(seconds: float, by_formula: float) -> float:
    return min(max(seconds / by_formula, LEAST), MOST)


def _seconds(config: TransformerConfig, part: Part, precision: Precision) -> tuple[float, bool]:
    """Seconds of forward and backward, and whether they were much alike each time."""
    import torch

    from ..models.transformer import Transformer
    from ..train.memory import keeping_memory

    model = Transformer(config, seed=0)
    tokens_BT = torch.arange(part.rows * part.width).view(part.rows, part.width) % config.vocab_size

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            loss = model.loss(tokens_BT, tokens_BT)
        loss.backward()  # type: ignore[no-untyped-call]
        model.zero_grad(set_to_none=True)

    with keeping_memory():
        each = [seconds_of(step) for _ in range(STEPS)][2:]
    middle = statistics.median(each)
    return middle, middle <= STEADY * min(each)
