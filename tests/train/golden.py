"""Small trainings of each family whose losses are stored, to the last bit.

python -m tests.train.golden writes them anew; with --add it adds the bits of this machine to those of others.
"""

from __future__ import annotations

import hashlib
import json
import random
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch

from shuyuan.hardware import detect
from shuyuan.models import NgramClassifier, NgramConfig, Transformer, TransformerConfig
from shuyuan.models.cnn import image_classifier
from shuyuan.models.hub_config import HubConfig
from shuyuan.models.hub_model import build
from shuyuan.models.image_config import ImageConfig
from shuyuan.models.lora import add_lora
from shuyuan.privacy import Mechanism
from shuyuan.recipe import Lora
from shuyuan.train.backend import Batch
from shuyuan.train.precision import repeatable
from shuyuan.train.private import PrivateBackend
from shuyuan.train.schedules import Schedule
from shuyuan.train.torch_backend import TorchBackend

from .parts import OLD_CPU, settings

GOLDEN = Path(__file__).with_name("golden.json")
WORDS = ["the", "red", "fox", "saw", "a", "small", "bird", "near", "old", "river", "and", "went", "home"]
STEPS, B, T = 20, 4, 32
RATES = {"muon": 0.01, "adamw": 0.003, "sgd": 0.1}
LORA_RATE = 0.01


@dataclass(frozen=True)
class Curve:
    """What a training came to: the loss of each step, and a digest of all that its last checkpoint would hold."""

    losses: list[float]
    digest: str

    @property
    def bits(self) -> str:
        """A digest of every bit of both."""
        return hashlib.sha256((" ".join(map(float.hex, self.losses)) + self.digest).encode()).hexdigest()


def machine(family: str) -> str:
    """What the last bits of a family depend on besides the code: processor, its instructions, and the libraries that compute."""
    libraries = ("torch", "numpy", *FAMILIES[family][1])
    versions = [f"{name} {_version(name)}" for name in libraries]
    return ", ".join([detect().name, torch.backends.cpu.get_cpu_capability(), *versions])


def _version(library: str) -> str:
    """TensorFlow comes under two names."""
    with suppress(metadata.PackageNotFoundError):
        return metadata.version(library)
    return metadata.version(f"{library}-cpu")


def _tokens() -> tuple[Any, Any]:
    text = " ".join(random.Random(0).choices(WORDS, k=2000)).encode()
    tokens = np.frombuffer(text[: STEPS * B * T + 1], np.uint8).astype(np.int64)
    inputs, targets = (part.reshape(STEPS, B, T) for part in (tokens[:-1], tokens[1:]))
    return inputs, targets


def transformer() -> Transformer:
    config = TransformerConfig(
        vocab_size=257, layers=2, width=32, heads=2, kv_heads=1, head_dim=16, hidden=64, context=T, end_id=256
    )
    return Transformer(config, seed=1)


def _learned(backend: Any, rate: float, batches: list[Batch]) -> Curve:
    schedule = Schedule(settings(steps=STEPS, schedule="wsd", warmup=0.1, decay=0.4), STEPS)
    losses = [backend.step(batch, rate * schedule.factor(batch.step)).loss for batch in batches]
    digest = hashlib.sha256()
    for name, array in sorted(backend.state().items()):
        digest.update(name.encode() + np.ascontiguousarray(array).tobytes())
    return Curve(losses, digest.hexdigest())


def of_text(model: Any, optimizer: str, rate: float | None = None) -> Curve:
    """Twenty steps of a language model on made-up text."""
    inputs, targets = _tokens()
    backend = TorchBackend(model, settings(optimizer=optimizer, steps=STEPS, micro_batch=2), OLD_CPU)
    return _learned(
        backend,
        rate or RATES[optimizer],
        [Batch(n, inputs[n - 1], targets[n - 1]) for n in range(1, STEPS + 1)],
    )


def _labelled(model: Any, batch: Callable[[np.random.Generator, np.ndarray[Any, Any]], Any]) -> Curve:
    """Three classes; `batch` makes inputs for labels."""
    draws = np.random.default_rng(0)
    backend = TorchBackend(model, settings(optimizer="adamw", steps=STEPS, micro_batch=4), OLD_CPU)
    labels = [draws.integers(0, 3, 8) for _ in range(STEPS)]
    return _learned(
        backend, 0.01, [Batch(n, batch(draws, each), each[:, None]) for n, each in enumerate(labels, 1)]
    )


def _lora() -> Curve:
    """Beside a model whose every matrix says something, as one that has learned: from zeros, last bits grow to a hundredth."""
    model = transformer()
    draws = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name.endswith(("o_proj.weight", "down_proj.weight")):
                weight.copy_(torch.empty(weight.shape).normal_(0.0, 0.1, generator=draws))
    add_lora(model, Lora(rank=4), seed=1)
    return of_text(model, "adamw", LORA_RATE)


def _gpt2() -> Curve:
    table = {
        "model_type": "gpt2",
        "vocab_size": 257,
        "n_embd": 32,
        "n_layer": 2,
        "n_head": 2,
        "n_positions": T,
        "eos_token_id": 256,
    }
    table |= dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), 0.0)
    return of_text(build(HubConfig.from_hub(table, where="golden"), None, None, 1, "golden"), "adamw")


def _cnn() -> Curve:
    config = ImageConfig(12, 12, 1, ("a", "b", "c"), widths=(8, 16))
    stripes = (np.indices((12, 12)).sum(0) // np.array([1, 2, 4])[:, None, None] % 2 * 160).astype(np.uint8)
    return _labelled(
        image_classifier(config, 1),
        lambda draws, labels: (
            stripes[labels][:, None] + draws.integers(0, 90, (8, 1, 12, 12)).astype(np.uint8)
        ),
    )


def _ngrams() -> Curve:
    shape = {"vocab_size": 257, "width": 8, "context": T, "end_id": 256, "rows": 997, "longest": 3}
    model = NgramClassifier(NgramConfig.of(labels=("a", "b", "c"), **shape), seed=1)
    return _labelled(model, lambda draws, labels: draws.integers(0, 40, (8, T)) + 40 * labels[:, None])


def _private() -> Curve:
    inputs, targets = _tokens()
    mechanism = Mechanism(100, float(B), STEPS, 0.5, 1.0, "joint", 1e-5)
    backend = PrivateBackend(
        transformer(), settings(optimizer="adamw", steps=STEPS, micro_batch=2), OLD_CPU, mechanism, bytes(32)
    )
    units = np.array([0, 1, 1, 2])
    return _learned(
        backend, 0.01, [Batch(n, inputs[n - 1], targets[n - 1], units) for n in range(1, STEPS + 1)]
    )


def _keras() -> Curve:
    from shuyuan.train.keras_backend import KerasBackend

    from ..models import recurrent_models as rnn

    draws = np.random.default_rng(0)
    backend = KerasBackend(rnn.model(lively=False, dropout=0.2), settings(optimizer="adamw", steps=STEPS))
    rows = [np.cumsum(draws.integers(1, 3, (B, rnn.T + 1)), 1) % rnn.V for _ in range(STEPS)]
    return _learned(
        backend, 0.02, [Batch(n, row[:, :-1].copy(), row[:, 1:].copy()) for n, row in enumerate(rows, 1)]
    )


# Each with the libraries besides PyTorch and NumPy that its bits depend on.
FAMILIES: dict[str, tuple[Callable[[], Curve], tuple[str, ...]]] = {
    "transformer, muon": (lambda: of_text(transformer(), "muon"), ()),
    "transformer, adamw": (lambda: of_text(transformer(), "adamw"), ()),
    "transformer, sgd": (lambda: of_text(transformer(), "sgd"), ()),
    "transformer, private": (_private, ()),
    "transformer, LoRA": (_lora, ("peft",)),
    "GPT-2 of transformers": (_gpt2, ("transformers",)),
    "cnn": (_cnn, ()),
    "ngrams": (_ngrams, ()),
    "rnn": (_keras, ("keras", "tensorflow")),
}


def curve(family: str) -> Curve:
    """Trains a family on one thread in float32."""
    if family == "rnn":
        from shuyuan.train.keras_backend import repeatable as keras_repeatable

        with keras_repeatable(1, 1, "fp32"):
            return FAMILIES[family][0]()
    with repeatable(1, 1, "fp32"):
        return FAMILIES[family][0]()


def main(*, add: bool) -> None:
    """Writes the curves, and what they come to here.

    Args:
        add: keeps the stored losses, which must be those found here to 1e-4, and the bits of other machines, unless those of this one
            have changed, since then theirs have too; else all are forgotten.
    """
    stored = json.loads(GOLDEN.read_text(encoding="utf-8"))
    for family in FAMILIES:
        found = curve(family)
        if not add:
            stored[family] = {"losses": [round(loss, 6) for loss in found.losses], "bits": {}}
        elif not np.allclose(found.losses, stored[family]["losses"], rtol=0, atol=1e-4):
            raise SystemExit(f"{family}: the losses are others than those stored; nothing was written")
        bits, here = stored[family]["bits"], machine(family)
        if bits.get(here, found.bits) != found.bits:
            bits.clear()
        bits[here] = found.bits
    GOLDEN.write_text(json.dumps(stored, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(add="--add" in sys.argv[1:])
