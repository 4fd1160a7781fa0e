"""One rank of several: `python -m tests.privacy.rank FOLDER`, with RANK and WORLD_SIZE as torchrun sets them.

Writes what this rank saw to FOLDER/rank-N.json and .npz. `scenes` is also run alone, as the one process to compare with.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import nn

from shuyuan.errors import PrivacyError
from shuyuan.privacy import PrivateLoop, make_private

RECORDS, OWNERS, WIDTH, STEPS = 60, 15, 6, 4
NOISE, CLIP, NOBODY = 1.5, 0.5, 1e-9  # NOBODY: an expected batch with which no unit is ever drawn
SETTINGS: dict[str, Any] = {"steps": STEPS, "noise_multiplier": 1e-6, "insecure_seed": 5}


def network(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(WIDTH, 8), nn.Tanh(), nn.Linear(8, 3))


def data() -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(3)
    return torch.randn(RECORDS, WIDTH), torch.randint(0, 3, (RECORDS,))


def train(loop: PrivateLoop, model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """The user's five lines; tells each step's rows by physical batch, its gradient, and the weights at the end."""
    seen: dict[str, Any] = {"rows": [], "gradients": []}
    optimizer.register_step_pre_hook(
        lambda *_: seen["gradients"].append([weight.grad.clone() for weight in model.parameters()])
    )
    x, y = data()
    for batch in loop.batches(micro_batch=4):
        seen["rows"].append([])
        for rows in batch:
            seen["rows"][-1].append(rows.tolist())
            loop.backward(F.cross_entropy(model(x[rows]), y[rows], reduction="none"))
        loop.step()
    return seen | {"weights": [weight.detach() for weight in model.parameters()]}


def of_owners(**changes: Any) -> dict[str, Any]:
    """Owners with four records, of which two are drawn; a step has five owners or so."""
    model = network()
    optimizer = torch.optim.AdamW(model.parameters(), 0.01)
    owners = [record // 4 for record in range(RECORDS)]
    settings = SETTINGS | {"units": owners, "expected_batch": 5, "records_per_unit": 2, "clip": CLIP}
    return train(make_private(model, optimizer, **settings | changes), model, optimizer)


def noise_alone(**changes: Any) -> dict[str, Any]:
    """No unit is drawn, so each gradient is noise over the expected batch."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(WIDTH, 300), nn.Linear(300, 300), nn.Linear(300, 3))
    optimizer = torch.optim.SGD(model.parameters(), 1e-12)
    settings = {
        "units": RECORDS,
        "expected_batch": NOBODY,
        "steps": 2,
        "noise_multiplier": NOISE,
        "clip": CLIP,
    }
    return train(make_private(model, optimizer, **SETTINGS | settings | changes), model, optimizer)


def refusals(rank: int) -> dict[str, str]:
    """What ranks that do not fit together are told: code and sentence."""
    from torch.distributed.fsdp import FullyShardedDataParallel, fully_shard

    def attempt(model: nn.Module, units: Any = RECORDS, **changes: Any) -> str:
        optimizer = torch.optim.SGD(model.parameters(), 0.1)
        settings = SETTINGS | {"units": units, "expected_batch": 5} | changes
        return refused(lambda: make_private(model, optimizer, **settings))

    plain = network()
    sharded = network()
    fully_shard(sharded)
    return {
        "weights": attempt(network(seed=rank)),
        "units": attempt(plain, [record // (4 + rank) for record in range(RECORDS)]),
        "owners": attempt(plain, np.roll(np.arange(RECORDS) // 4, rank)),
        "settings": attempt(plain, clip=1.0 + rank),
        "ddp": attempt(nn.parallel.DistributedDataParallel(network())),
        "ddp inside": attempt(nn.Sequential(nn.parallel.DistributedDataParallel(network()))),
        "fsdp": attempt(FullyShardedDataParallel(network(), device_id=torch.device("cpu"))),
        "fsdp2": attempt(sharded),
    }


def refused(make: Callable[[], object]) -> str:
    try:
        make()
    except PrivacyError as error:
        return str(error)
    return "taken"


def scenes() -> dict[str, dict[str, Any]]:
    return {
        "sums": of_owners(),
        "per layer": of_owners(clipping="per-layer"),
        "noisy": of_owners(noise_multiplier=1.0),
        "few": of_owners(expected_batch=0.8, steps=12),
        "noise": noise_alone(),
    }


def main(folder: Path) -> None:
    rank, count = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    torch.set_num_threads(1)
    # Without a bound a rank that makes one call too few lets the others wait for half an hour.
    dist.init_process_group(
        "gloo", f"file://{folder}/meeting", timedelta(seconds=60), world_size=count, rank=rank
    )
    found = scenes()
    secret = noise_alone(insecure_seed=None)
    drawn = of_owners(insecure_seed=None, steps=12)
    rows = {name: scene["rows"] for name, scene in (found | {"drawn": drawn}).items()}
    told = {"rows": rows, "refusals": refusals(rank)}
    (folder / f"rank-{rank}.json").write_text(json.dumps(told))
    arrays = {
        f"{name}/{kind}/{number}": array.numpy()
        for name, scene in (found | {"secret": secret}).items()
        for kind, number, array in _arrays(scene)
    }
    np.savez(folder / f"rank-{rank}.npz", **arrays)  # type: ignore[arg-type]
    dist.barrier()
    dist.destroy_process_group()


def _arrays(scene: dict[str, Any]) -> list[tuple[str, str, torch.Tensor]]:
    gradients = [
        ("gradients", f"{step}/{number}", grad)
        for step, grads in enumerate(scene["gradients"])
        for number, grad in enumerate(grads)
    ]
    return gradients + [("weights", str(number), array) for number, array in enumerate(scene["weights"])]


if __name__ == "__main__":
    main(Path(sys.argv[1]))
