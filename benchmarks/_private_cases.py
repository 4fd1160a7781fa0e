"""What `private_step.py` measures: cases, and for each the ways to make a step.

A case is a model and one logical batch in physical ones. Its ways are "plain", "private" (ours), for transformers
"private untied", and those of the peers.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import _opacus
from shuyuan.hardware import detect
from shuyuan.models import Transformer, TransformerConfig
from shuyuan.privacy import Mechanism, make_private
from shuyuan.recipe import Model, Train
from shuyuan.train.backend import Batch
from shuyuan.train.precision import DTYPES
from shuyuan.train.private import PrivateBackend
from shuyuan.train.torch_backend import TorchBackend

Step = Callable[[], object]
PRECISIONS = ("fp32", "bf16")
NOISE = 1.0
STEPS = 10**6  # of the mechanism; more than any benchmark makes
LEARNING_RATE = 1e-3


@dataclass(frozen=True)
class Sizes:
    """Of a case; those that it has no use for are ignored.

    Attributes:
        batch: rows of the logical batch.
        micro_batch: rows of a physical one.
        compiled: blocks, loss and a step's noise are.
    """

    batch: int
    micro_batch: int
    size: str = "small"
    context: int = 256
    vocab: int = 4096
    clipping: str = "joint"
    compiled: bool = False


CASES = {
    "main": Sizes(64, 16),
    "long": Sizes(16, 4, context=1024),
    "vocabulary": Sizes(32, 8, vocab=32768),
    "large": Sizes(64, 16, size="large", context=1024, vocab=50304),
    "cnn": Sizes(256, 64),
    "lora": Sizes(32, 16),
}
QUICK = {"batch": 4, "micro_batch": 2, "size": "tiny", "context": 32}


def ways(case: str, sizes: Sizes, jax_python: str | None) -> dict[str, Callable[[], Step]]:
    """A maker of a step for each way and precision, such as "opacus ghost bf16"."""
    make = {"cnn": cnn_ways, "lora": lora_ways}.get(case, transformer_ways)
    found = {
        f"{way} {precision}": maker
        for precision in PRECISIONS
        for way, maker in make(sizes, precision).items()
    }
    if jax_python and case == "main":
        config = transformer_config(sizes, tied=True)
        for mode in ("plain", "private"):
            found[f"jax {mode} fp32"] = lambda mode=mode: Jax(jax_python, config, sizes, mode)  # type: ignore[misc]
    return found


def base_of(name: str) -> str:
    """The way whose step a step is compared with: the plain one of the same library and precision."""
    return f"{'jax ' * name.startswith('jax')}plain {'compiled ' * ('compiled' in name)}{name.split()[-1]}"


# ---- transformers, as a recipe trains them ---------------------------------------------------------------------------


def transformer_ways(sizes: Sizes, precision: str) -> dict[str, Callable[[], Step]]:
    tied, untied = (transformer_config(sizes, tied=tied) for tied in (True, False))
    found: dict[str, Callable[[], Step]] = {
        "plain": lambda: plain_recipe(tied, sizes, precision),
        "private": lambda: private_recipe(tied, sizes, precision),
    }
    if torch.cuda.is_available():
        found["plain compiled"] = lambda: plain_recipe(tied, replace(sizes, compiled=True), precision)
        found["private compiled"] = lambda: private_recipe(tied, replace(sizes, compiled=True), precision)
    if _opacus.available():
        found["private untied"] = lambda: private_recipe(untied, sizes, precision)
        for mode in _opacus.MODES:
            found[f"opacus {mode}"] = lambda mode=mode: opacus_step(  # type: ignore[misc]
                _opacus.with_torch_norms(Transformer(untied, seed=1)),
                lambda model, tokens: model(tokens),
                tokens_of(sizes),
                sizes,
                mode,
                precision,
            )
    return found


def transformer_config(sizes: Sizes, *, tied: bool) -> TransformerConfig:
    shape = Model.model_validate({"size": sizes.size, "context": sizes.context})
    return replace(TransformerConfig.from_recipe(shape, sizes.vocab, sizes.vocab - 1), tied=tied)


def settings(sizes: Sizes, precision: str) -> Train:
    return Train.model_validate(
        {
            "optimizer": "adamw",
            "precision": precision,
            "batch_size": sizes.batch,
            "micro_batch": sizes.micro_batch,
            "learning_rate": LEARNING_RATE,
            "weight_decay": 0.1,
            "compile": sizes.compiled,
        }
    )


def plain_recipe(config: TransformerConfig, sizes: Sizes, precision: str) -> Step:
    backend, batch = (
        TorchBackend(Transformer(config, seed=1), settings(sizes, precision), detect()),
        batch_of(sizes),
    )
    return lambda: backend.step(batch, LEARNING_RATE)


def private_recipe(config: TransformerConfig, sizes: Sizes, precision: str) -> Step:
    clipping: Any = sizes.clipping
    mechanism = Mechanism(sizes.batch, sizes.batch, STEPS, NOISE, 1.0, clipping, 1e-5)
    model, batch = Transformer(config, seed=1), batch_of(sizes)
    backend = PrivateBackend(model, settings(sizes, precision), detect(), mechanism, bytes(32))
    return lambda: backend.step(batch, LEARNING_RATE)


def tokens_of(sizes: Sizes) -> tuple[Tensor, Tensor]:
    batch = batch_of(sizes)
    return torch.from_numpy(batch.inputs_BT), torch.from_numpy(batch.targets_BT)


def batch_of(sizes: Sizes) -> Batch:
    tokens = np.random.default_rng(0).integers(0, sizes.vocab, (sizes.batch, sizes.context + 1))
    return Batch(1, tokens[:, :-1].copy(), tokens[:, 1:].copy(), np.arange(sizes.batch))


# ---- models in a loop of one's own -----------------------------------------------------------------------------------

Logits = Callable[[nn.Module, Tensor], Tensor]  # (rows, classes), or (rows, T, classes)


def loop_ways(
    make: Callable[[], nn.Module], logits: Logits, data: tuple[Tensor, Tensor], sizes: Sizes, precision: str
) -> dict[str, Callable[[], Step]]:
    found: dict[str, Callable[[], Step]] = {
        "plain": lambda: plain_loop(make(), logits, data, sizes, precision),
        "private": lambda: private_loop(make(), logits, data, sizes, precision),
    }
    if _opacus.available():
        for mode in _opacus.MODES:
            found[f"opacus {mode}"] = lambda mode=mode: opacus_step(
                make(), logits, data, sizes, mode, precision
            )  # type: ignore[misc]
    return found


def plain_loop(
    model: nn.Module, logits: Logits, data: tuple[Tensor, Tensor], sizes: Sizes, precision: str
) -> Step:
    optimizer, parts = adamw(model), physical(data, sizes)

    def step() -> None:
        for inputs, targets in parts:
            losses = losses_of(model, logits, inputs, targets, precision)
            (losses.sum() / sizes.batch).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def private_loop(
    model: nn.Module, logits: Logits, data: tuple[Tensor, Tensor], sizes: Sizes, precision: str
) -> Step:
    """With `make_private`; at a sampling rate of one each batch holds every row."""
    clipping: Any = sizes.clipping
    private = make_private(
        model,
        adamw(model),
        units=sizes.batch,
        expected_batch=sizes.batch,
        steps=STEPS,
        noise_multiplier=NOISE,
        clipping=clipping,
    )
    inputs, targets = data
    batches = private.batches(sizes.micro_batch)

    def step() -> None:
        for rows in next(batches):
            private.backward(losses_of(model, logits, inputs[rows], targets[rows], precision))
        private.step()

    return step


def opacus_step(
    model: nn.Module, logits: Logits, data: tuple[Tensor, Tensor], sizes: Sizes, mode: str, precision: str
) -> Step:
    model = model.to(detect().device)
    return _opacus.step(model, logits, physical(data, sizes), mode, precision, adamw(model))


def losses_of(model: nn.Module, logits: Logits, inputs: Tensor, targets: Tensor, precision: str) -> Tensor:
    """One a row: the mean over its targets."""
    with torch.autocast(inputs.device.type, dtype=DTYPES[precision], enabled=precision != "fp32"):
        found = logits(model, inputs).float()
    losses = F.cross_entropy(found.flatten(0, -2), targets.flatten(), reduction="none")
    return losses.view(len(targets), -1).mean(1)


def adamw(model: nn.Module) -> torch.optim.AdamW:
    model.to(detect().device)
    trainable = [weight for weight in model.parameters() if weight.requires_grad]
    return torch.optim.AdamW(trainable, LEARNING_RATE, (0.9, 0.95), weight_decay=0.1, fused=True)


def physical(data: tuple[Tensor, Tensor], sizes: Sizes) -> list[tuple[Tensor, Tensor]]:
    device = detect().device
    inputs, targets = (torch.split(part.to(device), sizes.micro_batch) for part in data)
    return list(zip(inputs, targets, strict=True))


# ---- images ----------------------------------------------------------------------------------------------------------


def cnn_ways(sizes: Sizes, precision: str) -> dict[str, Callable[[], Step]]:
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(sizes.batch, 3, 32, 32, generator=generator)
    labels = torch.randint(10, (sizes.batch,), generator=generator)
    device = detect().device
    return loop_ways(
        residual_net, lambda model, x: model(x), (images.to(device), labels.to(device)), sizes, precision
    )


def residual_net() -> nn.Module:
    """Three stages of two blocks, 16, 32 and 64 channels wide, as is usual for images of 32 x 32."""
    torch.manual_seed(1)
    layers: list[nn.Module] = [nn.Conv2d(3, 16, 3, padding=1, bias=False)]
    before = 16
    for channels, stride in ((16, 1), (16, 1), (32, 2), (32, 1), (64, 2), (64, 1)):
        layers.append(Block(before, channels, stride))
        before = channels
    return nn.Sequential(
        *layers, nn.GroupNorm(8, 64), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10)
    )


class Block(nn.Module):
    """Norm, ReLU and convolution, twice, added to what came in."""

    def __init__(self, before: int, channels: int, stride: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.GroupNorm(8, before), nn.GroupNorm(8, channels)
        self.conv1 = nn.Conv2d(before, channels, 3, stride, 1, bias=False)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        same = before == channels and stride == 1
        self.shortcut = nn.Identity() if same else nn.Conv2d(before, channels, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        shortcut: Tensor = self.shortcut(x)
        y = self.conv1(F.relu(self.norm1(x)))
        return self.conv2(F.relu(self.norm2(y))) + shortcut


# ---- LoRA ------------------------------------------------------------------------------------------------------------


def lora_ways(sizes: Sizes, precision: str) -> dict[str, Callable[[], Step]]:
    device = detect().device
    inputs, targets = (part.to(device) for part in tokens_of(sizes))
    return loop_ways(
        lambda: lora(sizes),
        lambda model, tokens: model(input_ids=tokens, use_cache=False).logits,
        (inputs, targets),
        sizes,
        precision,
    )


def lora(sizes: Sizes) -> nn.Module:
    """Qwen3 of transformers in the same shape, with adapters of rank 16 at every matrix of its blocks."""
    import peft
    import transformers

    torch.manual_seed(1)
    config = transformers.Qwen3Config(**transformer_config(sizes, tied=True).to_hub())
    model: Any = transformers.Qwen3ForCausalLM(config)
    names = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    return peft.get_peft_model(model, peft.LoraConfig(r=16, lora_alpha=32, target_modules=names)).train()


# ---- JAX -------------------------------------------------------------------------------------------------------------


class Jax:
    """A step in another process, which has jax; the time it takes to ask is nothing beside it."""

    def __init__(self, python: str, config: TransformerConfig, sizes: Sizes, mode: str) -> None:
        shape = {
            "layers": config.layers, "width": config.width, "heads": config.heads, "kv_heads": config.kv_heads,
            "head_dim": config.head_dim, "hidden": config.hidden, "vocab": config.vocab_size,
            "context": sizes.context, "batch": sizes.batch, "micro_batch": sizes.micro_batch,
        }  # fmt: skip
        script = str(Path(__file__).with_name("_jax_privacy.py"))
        environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
        self._process = subprocess.Popen(
            [python, script, json.dumps(shape), mode],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment,
        )  # fmt: skip

    def __call__(self) -> None:
        self._ask("step")

    def peak(self) -> int:
        """Bytes of that process, what its compiler used among them."""
        return int(self._ask("peak"))

    def _ask(self, what: str) -> str:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(what, file=self._process.stdin, flush=True)
        answer = self._process.stdout.readline()
        if not answer:
            raise SystemExit("The peer in JAX has ended; its message stands above.")
        return answer
