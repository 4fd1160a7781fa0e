"""Which optimizer a recipe that names none gets, its learning rate and its weight decay: by formulas, whose numbers were measured."""

from __future__ import annotations

from typing import Literal

from ..models import HubConfig, ImageConfig, NgramConfig, RnnConfig, TransformerConfig
from ..recipe import Recipe

# At width 256, and the power of width: muon's optimum is flat (2e-3 to 4e-3 within 0.015 nats at 256), adamw's falls
# with width (3e-3 was best at 128, 1.5e-3 at 256). Measured on the source text of Python; docs/lab-notes.md.
LEARNING_RATES = {"muon": (3e-3, -0.25), "adamw": (1.5e-3, -1.0), "sgd": (0.3, 0.0)}
# Of a model that has learned before, and of LoRA beside one.
TUNING_RATES = LEARNING_RATES | {"adamw": (1.5e-4, -1.0), "sgd": (0.03, 0.0)}
# Of recurrent models, which learn worse beyond: docs/lab-notes.md. What has learned before gets a tenth.
RNN_RATES, RNN_TUNING = {"adamw": (4e-3, -0.5), "sgd": (0.5, 0.0)}, 10
# Of LoRA at width 2000 and rank 16; privately, where steps are few and their batches large; the powers of width and rank. Tried at
# widths 128 and 384 and at ranks 1 to 64: docs/lab-notes.md.
LORA_RATE, PRIVATE_LORA_RATE, LORA_WIDTH_POWER, LORA_RANK_POWER = 5e-4, 8.3e-4, -0.78, -0.5
# Of networks for images, whatever their size; those that have learned before get a share of it.
IMAGE_RATES = {"muon": 1e-2, "adamw": 3e-3, "sgd": 0.1}
PRIVATE_IMAGE_RATES = {"muon": 1e-3, "adamw": 3e-3, "sgd": 0.25}
IMAGE_TUNING_SHARE = 0.1
# Of the family ngrams at width 64, and the power of width; a tenth of what has learned before.
NGRAM_RATES, NGRAM_TUNING = {"adamw": (5e-3, 0.5), "sgd": (1.0, 0.0)}, 10
# A step shrinks a weight by rate times decay: at SGD's rates, 0.1 would undo in forty steps what was learned.
WEIGHT_DECAYS = {"muon": 0.1, "adamw": 0.1, "sgd": 5e-4}


def choose_optimizer(
    recipe: Recipe, config: TransformerConfig | ImageConfig | RnnConfig
) -> Literal["muon", "adamw", "sgd"]:
    """The optimizer that learned most in the same time; docs/lab-notes.md.

    Args:
        recipe: says whether LoRA and privacy are on.
        config: the model's shape.
    """
    if isinstance(config, ImageConfig | NgramConfig) and recipe.privacy is not None:
        return "sgd"  # AdamW would make what is noise alone as large as what was learned
    return "adamw" if recipe.train.lora or isinstance(config, HubConfig | RnnConfig | NgramConfig) else "muon"


def choose_learning_rate(recipe: Recipe, optimizer: str, width: int) -> float:
    """The peak learning rate; from nothing, tuned at widths 128 and 256; of networks for images, for all sizes.

    Args:
        recipe: says family, LoRA, privacy, and whether the model learned before.
        optimizer: "muon", "adamw" or "sgd".
        width: of the model.

    Returns:
        In two digits, but for images.
    """
    tuned = recipe.model.from_ is not None
    if recipe.images:
        rates = IMAGE_RATES if recipe.privacy is None else PRIVATE_IMAGE_RATES
        return rates[optimizer] * (IMAGE_TUNING_SHARE if tuned else 1)
    if recipe.model.family == "ngrams":
        return _scaled(*NGRAM_RATES[optimizer], width / 64, NGRAM_TUNING if tuned else 1)
    if recipe.train.lora is not None and optimizer == "adamw":
        return lora_rate(recipe.train.lora.rank, width, private=recipe.privacy is not None)
    if recipe.model.family == "rnn":
        return _scaled(*RNN_RATES[optimizer], width / 256, RNN_TUNING if tuned else 1)
    return _scaled(*(TUNING_RATES if tuned else LEARNING_RATES)[optimizer], width / 256)


def _scaled(rate: float, power: float, times: float, less: int = 1) -> float:
    """A rate for a model that is so many times as wide, in two digits."""
    return float(f"{rate * times**power / less:.2g}")


def lora_rate(rank: int, width: int, *, private: bool) -> float:
    """The peak learning rate of LoRA with AdamW: about ten times that of training everything.

    Args:
        rank: with the usual alpha, twice the rank, more columns change the model more with each step.
        width: of the model; wider ones learn more slowly.
        private: whether noise is added.

    Reference: Schulman et al., "LoRA without regret", Thinking Machines, 2025 (rate and width); Kalajdzievski, "A rank stabilization
    scaling factor for fine-tuning with LoRA", arXiv 2312.03732, 2023 (rank).
    """
    rate = PRIVATE_LORA_RATE if private else LORA_RATE
    return float(f"{rate * (width / 2000) ** LORA_WIDTH_POWER * (rank / 16) ** LORA_RANK_POWER:.2g}")
