"""Seconds to a loss, beside nanoGPT's command for CPUs: tinyshakespeare's characters, the whole validation split, all after the start counted.

    git clone https://github.com/karpathy/nanoGPT
    python benchmarks/time_to_loss.py --nanogpt nanoGPT [--data ../shared/data/text/tinyshakespeare.txt] [--rounds 3]

Both are commands, timed from the start of their process to its end: `shuyuan train` on a recipe, preparation included, and nanoGPT's
`train.py` with the settings of its README for "a cheap computer", whose preparation is left out. Both hold out the last tenth. Then, without
a clock, each model is asked for the loss of every held-out character, in windows of its own context: nanoGPT's own estimate is drawn from
240 windows. They take turns. `--more` also gives ours nanoGPT's whole time, and looks how long 1.60 takes.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

NANOGPT = [
    "--device=cpu",
    "--compile=False",
    "--eval_iters=20",
    "--log_interval=500",
    "--block_size=64",
    "--batch_size=12",
    "--n_layer=4",
    "--n_head=4",
    "--n_embd=128",
    "--max_iters=2000",
    "--lr_decay_iters=2000",
    "--dropout=0.0",
]
# What was found quickest to each loss: small models, since two cores make few operations; docs/lab-notes.md.
RECIPES: dict[str, dict[str, Any]] = {
    "1.88": {
        "model": {"layers": 2, "width": 64, "context": 64},
        "train": {
            "budget": "270 steps",
            "batch_size": 32,
            "learning_rate": 0.02,
            "warmup": 0.04,
            "decay": 0.7,
        },
    },
    "1.60": {
        "model": {"layers": 3, "width": 128, "heads": 4, "context": 128},
        "train": {
            "budget": "480 steps",
            "batch_size": 24,
            "learning_rate": 0.01,
            "warmup": 0.03,
            "decay": 0.7,
        },
    },
    "its time": {
        "model": {"layers": 3, "width": 128, "heads": 4, "context": 128},
        "train": {
            "budget": "630 steps",
            "batch_size": 24,
            "learning_rate": 0.01,
            "warmup": 0.03,
            "decay": 0.7,
        },
    },
}


def recipe_file(name: str, text: Path, folder: Path) -> Path:
    """A recipe as someone would write it, the last tenth held out by its own file."""
    import tomli_w

    whole = text.read_text(encoding="utf-8")
    cut = int(0.9 * len(whole))
    for part, piece in (("train", whole[:cut]), ("validation", whole[cut:])):
        (folder / f"{part}.txt").write_text(piece, encoding="utf-8")
    table = RECIPES[name]
    asked: dict[str, Any] = {
        "name": "shakespeare",
        "data": {"source": str(folder / "train.txt"), "validation": str(folder / "validation.txt")},
        "tokenizer": {"kind": "char"},
        "model": table["model"],
        "train": table["train"] | {"evaluations": 1, "checkpoint_every": "1 h"},
    }
    file = folder / f"{name.replace(' ', '-')}.toml"
    file.write_text(tomli_w.dumps(asked), encoding="utf-8")
    return file


def ours(name: str, text: Path, folder: Path) -> tuple[float, float, int]:
    """(seconds, loss, parameters) of a run of a recipe."""
    file, out = recipe_file(name, text, folder), folder / "run"
    shutil.rmtree(out, ignore_errors=True)
    command = [Path(sys.executable).parent / "shuyuan", "train", file, "--out", out]
    seconds = timed([str(each) for each in command], folder)
    from shuyuan.data import open_split
    from shuyuan.data.manifest import load_manifest
    from shuyuan.models import load_network
    from shuyuan.vault import OpenStore

    with OpenStore(out) as store:
        model: Any = load_network(store)
        manifest = load_manifest(store)
        assert manifest is not None
        windows = open_split(store, manifest, "validation", model.context)
        loss, places = 0.0, 0
        with torch.inference_mode():
            for inputs, targets in windows.in_order(64):
                loss += model.loss(torch.from_numpy(inputs), torch.from_numpy(targets)).item()
                places += int((targets >= 0).sum())
    return seconds, loss / places, model.config.parameters


def nanogpt(checkout: Path, text: Path, folder: Path) -> tuple[float, float, int]:
    """The same of its command."""
    place = folder / "nanogpt"
    if not place.exists():
        shutil.copytree(checkout, place, ignore=shutil.ignore_patterns(".git", "out*"))
        shutil.copy(text, place / "data/shakespeare_char/input.txt")
        subprocess.run(
            [sys.executable, "data/shakespeare_char/prepare.py"],
            cwd=place,
            check=True,
            stdout=subprocess.DEVNULL,
        )
    command = [sys.executable, "train.py", "config/train_shakespeare_char.py", *NANOGPT]
    seconds = timed(command, place)
    return seconds, *nanogpt_loss(place)


def nanogpt_loss(place: Path) -> tuple[float, int]:
    """What its last weights say of all that is held out. The file is its own, written a moment ago."""
    code = (
        "import torch, numpy as np, json; from model import GPT, GPTConfig\n"
        "c = torch.load('out-shakespeare-char/ckpt.pt', weights_only=False); m = GPT(GPTConfig(**c['model_args']))\n"
        "m.load_state_dict(c['model']); m.eval(); T = c['model_args']['block_size']\n"
        "d = torch.from_numpy(np.fromfile('data/shakespeare_char/val.bin', np.uint16).astype(np.int64)); n = (len(d) - 1) // T\n"
        "x, y = d[:n * T].view(n, T), d[1:n * T + 1].view(n, T)\n"
        "with torch.no_grad(): print(json.dumps([sum(m(x[i:i + 64], y[i:i + 64])[1].item() * x[i:i + 64].numel() for i in range(0, n, 64)) "
        "/ (n * T), sum(p.numel() for p in m.parameters())]))"
    )
    out = subprocess.run(
        [sys.executable, "-c", code], cwd=place, check=True, capture_output=True, text=True
    ).stdout
    loss, parameters = json.loads(out.splitlines()[-1])
    return loss, parameters


def timed(command: list[str], folder: Path) -> float:
    """Seconds of a whole process."""
    begun = time.perf_counter()
    subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - begun


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--nanogpt", type=Path, help="its checkout; without it, ours alone")
    parser.add_argument("--data", type=Path, default=Path("../shared/data/text/tinyshakespeare.txt"))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--more", action="store_true", help="nanoGPT's time, and 1.60, too")
    asked = parser.parse_args()
    text = asked.data.resolve()
    found: dict[str, list[tuple[float, float, int]]] = {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for _ in range(asked.rounds):
            for name in list(RECIPES) if asked.more else ["1.88"]:
                found.setdefault(f"shuyuan, {name}", []).append(ours(name, text, folder))
            if asked.nanogpt:
                found.setdefault("nanoGPT", []).append(nanogpt(asked.nanogpt.resolve(), text, folder))
    table = {}
    print(f"{'':20}{'seconds':>9}{'loss':>8}{'parameters':>12}   each round")
    for name, runs in found.items():
        seconds, loss = (statistics.median(run[n] for run in runs) for n in (0, 1))
        each = " ".join(f"{run[0]:.1f} s {run[1]:.4f}" for run in runs)
        print(f"{name:20}{seconds:9.1f}{loss:8.4f}{runs[0][2]:12,}   {each}")
        table[name] = {"seconds": seconds, "loss": loss, "parameters": runs[0][2]}
    if "nanoGPT" in table:
        share = table["shuyuan, 1.88"]["seconds"] / table["nanoGPT"]["seconds"]
        print(f"1.88 in {share:.3f} of nanoGPT's time (mark {1 / 6:.3f})")
    print(json.dumps(table))


if __name__ == "__main__":
    main()
