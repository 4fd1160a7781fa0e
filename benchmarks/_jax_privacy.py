"""The peer in JAX: one training step at a time, of a transformer of the same shape, when its standard input says so.

It runs in an interpreter of its own, which has jax and jax-privacy and need not have torch or Shuyuan; `private_step.py`
starts it. For each line "step" it makes a step and answers "done"; for "peak" it answers with the bytes of its peak.

The model is Shuyuan's layout in plain JAX: RMSNorm, rotary positions, grouped attention, SwiGLU. The plain step adds up
gradients over physical batches; the private one is `jax_privacy.clipped_grad`, whose `microbatch_size` is the same physical
batch, and `gaussian_privatizer`. Both are compiled as a whole and use optax' AdamW.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax_privacy import clipped_grad
from jax_privacy.noise_addition import gaussian_privatizer

Weights = dict[str, Any]


def weights(shape: dict[str, Any]) -> Weights:
    """Normal with deviation 0.02; norms are ones, and so that nothing is trivially zero, no matrix starts at zero."""
    keys = iter(jax.random.split(jax.random.key(1), 8 * shape["layers"] + 2))
    C, D = shape["width"], shape["head_dim"]

    def matrix(*size: int) -> jax.Array:
        return 0.02 * jax.random.normal(next(keys), size)

    blocks = [
        {
            "q": matrix(C, shape["heads"] * D),
            "k": matrix(C, shape["kv_heads"] * D),
            "v": matrix(C, shape["kv_heads"] * D),
            "o": matrix(shape["heads"] * D, C),
            "gate": matrix(C, shape["hidden"]),
            "up": matrix(C, shape["hidden"]),
            "down": matrix(shape["hidden"], C),
            "norms": [jnp.ones(C), jnp.ones(C), jnp.ones(D), jnp.ones(D)],
        }
        for _ in range(shape["layers"])
    ]
    return {"embedding": matrix(shape["vocab"], C), "blocks": blocks, "norm": jnp.ones(C)}


def loss(model: Weights, tokens_BT: jax.Array, targets_BT: jax.Array, shape: dict[str, Any]) -> jax.Array:
    """Mean cross entropy; the head is the embedding."""
    D = shape["head_dim"]
    angles = jnp.arange(tokens_BT.shape[1])[:, None] / 1e4 ** (jnp.arange(0, D, 2) / D)
    cos, sin = (jnp.concatenate([x, x], -1)[:, None] for x in (jnp.cos(angles), jnp.sin(angles)))

    def rotate(x: jax.Array) -> jax.Array:
        first, second = jnp.split(x, 2, -1)
        return x * cos + jnp.concatenate([-second, first], -1) * sin

    x = model["embedding"][tokens_BT]
    for block in model["blocks"]:
        before, between, of_q, of_k = block["norms"]
        y = norm(x, before)
        q, k, v = ((y @ block[name]).reshape(*y.shape[:2], -1, D) for name in "qkv")
        y = jax.nn.dot_product_attention(rotate(norm(q, of_q)), rotate(norm(k, of_k)), v, is_causal=True)
        x = x + y.reshape(*y.shape[:2], -1) @ block["o"]
        y = norm(x, between)
        x = x + (jax.nn.silu(y @ block["gate"]) * (y @ block["up"])) @ block["down"]
    logits = norm(x, model["norm"]) @ model["embedding"].T
    return optax.softmax_cross_entropy_with_integer_labels(logits, targets_BT).mean()


def norm(x: jax.Array, weight: jax.Array) -> jax.Array:
    return x * jax.lax.rsqrt(jnp.mean(x * x, -1, keepdims=True) + 1e-6) * weight


class Trainer:
    """Makes steps.

    Args:
        shape: of the model and the batch.
        private: with clipping of each sequence, and noise.
    """

    def __init__(self, shape: dict[str, Any], private: bool) -> None:
        def of_batch(model: Weights, tokens_BT: jax.Array, targets_BT: jax.Array) -> jax.Array:
            return loss(model, tokens_BT, targets_BT, shape)

        batch, part = shape["batch"], shape["micro_batch"]
        clipped = clipped_grad(
            of_batch, l2_clip_norm=1.0, batch_argnums=(1, 2), normalize_by=batch, microbatch_size=part
        )
        privatizer = gaussian_privatizer(stddev=1.0 / batch, prng_key=jax.random.key(2))
        adamw = optax.adamw(1e-3, 0.9, 0.95, weight_decay=0.1)

        def gradient(model: Weights, noise: Any, tokens: jax.Array, targets: jax.Array) -> tuple[Any, Any]:
            if private:
                return privatizer.update(clipped(model, tokens, targets), noise)
            parts = [x.reshape(-1, part, x.shape[1]) for x in (tokens, targets)]

            def add(total: Any, one: Any) -> tuple[Any, None]:
                return jax.tree.map(jnp.add, total, jax.grad(of_batch)(model, *one)), None

            total, _ = jax.lax.scan(add, jax.tree.map(jnp.zeros_like, model), parts)
            return jax.tree.map(lambda x: x * part / batch, total), noise

        def step(model: Weights, state: Any, noise: Any, tokens: jax.Array, targets: jax.Array) -> Any:
            found, noise = gradient(model, noise, tokens, targets)
            updates, state = adamw.update(found, state, model)
            return optax.apply_updates(model, updates), state, noise

        self._step = jax.jit(step, donate_argnums=(0, 1))
        model = weights(shape)
        self._state = (model, adamw.init(model), privatizer.init(model))
        tokens = jax.random.randint(jax.random.key(0), (batch, shape["context"] + 1), 0, shape["vocab"])
        self._batch = (tokens[:, :-1], tokens[:, 1:])

    def step(self) -> None:
        self._state = jax.block_until_ready(self._step(*self._state, *self._batch))


def peak() -> int:
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text(encoding="ascii"))
    return int(found[1]) * 1024 if found else 0


def main() -> None:
    """The shape as JSON and "plain" or "private" are the arguments."""
    trainer = Trainer(json.loads(sys.argv[1]), sys.argv[2] == "private")
    for line in sys.stdin:
        if line.strip() == "step":
            trainer.step()
            print("done", flush=True)
        else:
            print(peak(), flush=True)


if __name__ == "__main__":
    main()
