"""What compression costs a transformer that is well trained: bytes, loss and agreement of each variant, and whether the marks are reached.

    python benchmarks/compression.py [--data ../shared/data/text] [--out compression.json]
    python benchmarks/compression.py --steps 20 --bytes 60000 --layers 2 --width 128     # a trial on a CPU

Each text is cut in three: the first 80 % to learn from, 10 % by which the number of steps is chosen, and the last 10 %, at
which no choice looks: it gives the figures, every token of it, in float32 with a sum in float64. Bytes are those of the file of
weights. Recovery learns on what training learned from. Results are written after each variant, so that what is done is kept.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
import traceback
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from shuyuan import compress, pipeline, recipe, train
from shuyuan.compress import Variant
from shuyuan.data import Manifest, open_split
from shuyuan.hardware import detect
from shuyuan.models import load_network
from shuyuan.runs import variant_folder
from shuyuan.train.tuning import tune

# Steps that are tried, each twice as many, until the loss on validation rises.
TEXTS = {"tinyshakespeare.txt": (250, 500, 1000, 2000), "zh_song_ci.txt": (1000, 2000, 4000, 8000)}
BATCH, CONTEXT = 64, 256
TRIAL_SHARE = 0.4  # of a text's time, after which no more steps are tried
Row = dict[str, Any]


@dataclass
class Trained:
    """A run with its trained model."""

    job: pipeline.Job
    manifest: Manifest
    validation: float

    def measured(self, variant: str, split: str) -> tuple[float, Tensor]:
        """Mean loss in nats a token, and the likeliest token at each place."""
        device = detect().device
        model: Any = load_network(self.job.store, variant_folder(variant)).to(device).eval()
        total, places, guesses = 0.0, 0, []
        windows = open_split(self.job.store, self.manifest, split, CONTEXT)
        with torch.inference_mode():
            for inputs, targets in windows.in_order(BATCH):
                logits_NV = model(torch.from_numpy(inputs).to(device)).flatten(0, 1)
                wanted_N = torch.from_numpy(targets).flatten().to(device)
                total += F.cross_entropy(logits_NV.double(), wanted_N, reduction="sum").item()
                places += int((wanted_N >= 0).sum())
                guesses.append(logits_NV.argmax(-1)[wanted_N >= 0].cpu())
        return total / places, torch.cat(guesses)

    def bytes_of(self, variant: str) -> int:
        """Bytes of its file of weights."""
        folder = variant_folder(variant)
        names = [name for name in self.job.store.names(f"{folder}/") if name.endswith(".safetensors")]
        return sum(len(self.job.store.read(name)) for name in names)


def split_text(text: Path, folder: Path, most: int | None) -> dict[str, str]:
    """The text in three files of whole lines, as keys of [data]."""
    lines = text.read_bytes()[:most].decode(errors="ignore").splitlines(keepends=True)
    ends = [0, round(0.8 * len(lines)), round(0.9 * len(lines)), len(lines)]
    parts = {}
    for key, first, last in zip(("source", "validation", "test"), ends, ends[1:], strict=False):
        parts[key] = str(folder / f"{key}.txt")
        Path(parts[key]).write_text("".join(lines[first:last]), encoding="utf-8")
    return parts


def trained(
    data: dict[str, str], model: dict[str, int], steps: int, folder: Path, open_: ExitStack, **more: Any
) -> Trained:
    """A model trained by a recipe; `more` keys of [train]."""
    name = "-".join(["steps", str(steps), *map(str, model.values()), *more])
    asked = recipe.from_table(
        {
            "name": name,
            "task": "generation",
            "data": data,
            "model": model | {"context": CONTEXT},
            "train": {"budget": f"{steps} steps", "batch_size": BATCH, "evaluations": 4} | more,
        }
    )
    job = open_.enter_context(pipeline.begin(asked, "train", out=folder / name))
    manifest = pipeline.prepare(job)
    job.recipe = train.resolve(job.recipe, manifest, detect(), job.progress)
    train.train(job.recipe, job.store, job.progress, job.stop)
    made = Trained(job, manifest, 0.0)
    return replace(made, validation=made.measured("original", "validation")[0])


def well_trained(candidates: Iterable[int], until: float, tried: dict[int, float], **how: Any) -> Trained:
    """The one with the least loss on validation, of more and more steps until it rises or time is up."""
    best = None
    for steps in candidates:
        found = trained(steps=steps, **how)
        tried[steps] = round(found.validation, 4)
        print(f"  {steps} steps: {found.validation:.4f} on validation", flush=True)
        if best is not None and found.validation >= best.validation:
            break
        best = found
        if time.monotonic() > until:
            break
    assert best is not None
    return best


def wanted(steps: int) -> list[Variant]:
    """What is made, what the marks are about first; recovery takes a fifth of training's steps, and a third where much is gone."""
    again, longer = f"{max(2, steps // 5)} steps", f"{max(3, steps // 3)} steps"
    half = [Variant(pruned=0.5, pruning=method) for method in ("magnitude", "wanda", "sparsegpt")]
    most = [
        Variant(pruned=0.7, pruning=method, recover=longer)
        for method in ("magnitude", "gradual", "sparsegpt")
    ]
    return [
        Variant(8),
        Variant(4, rounding="nearest"),
        Variant(4, rounding="gptq"),
        *half,
        *(replace(each, recover=again) for each in half),
        *most,
        Variant(shrunk=0.3, recover=again),
        Variant(shortened=0.33, recover=again),
        Variant(4, pruned=0.5, pruning="sparsegpt", rounding="gptq", recover=again),
    ]


def make(run: Trained, variant: Variant, records: Any) -> None:
    """Writes one variant of the run."""
    job = run.job

    def further(network: Any, budget: str, between: Any, smaller: bool) -> None:
        tune(job.recipe, job.store, run.manifest, network, budget, between, smaller, job.progress)

    model = load_network(job.store)
    tokenizer = job.store.read("data/tokenizer.json").decode()
    compress.compress(job.store, model, [variant], tokenizer, lambda _: "", records, further, job.progress)


def rows(run: Trained, until: float, keep: Any) -> dict[str, Row]:
    """A row of figures for each variant; one that fails says why, and the others are made all the same."""
    loss, guesses = run.measured("original", "test")
    size = run.bytes_of("original")
    found: dict[str, Row] = {
        "original": {"bytes": size, "share": 1.0, "loss": loss, "change": 0.0, "agreement": 1.0}
    }
    show("original", found["original"])
    store, model = run.job.store, load_network(run.job.store)
    records = compress.calibration_records(
        run.job.recipe, store, run.manifest, model, run.job.progress
    ).inputs
    for variant in wanted(run.job.recipe.train.steps or 0):
        if time.monotonic() > until:
            found[variant.name] = {"error": "no time was left"}
            continue
        begun = time.monotonic()
        try:
            make(run, variant, records)
            own, said = run.measured(variant.name, "test")
            own_bytes = run.bytes_of(variant.name)
            found[variant.name] = {
                "bytes": own_bytes,
                "share": own_bytes / size,
                "loss": own,
                "change": own / loss - 1,
                "agreement": (said == guesses).double().mean().item(),
                "seconds": round(time.monotonic() - begun, 1),
            }
        except Exception:  # one rented machine, one try: the others are still worth having
            found[variant.name] = {"error": traceback.format_exc()}
        show(variant.name, found[variant.name])
        keep(found)
    return found


def students(run: Trained, until: float, found: dict[str, Row], keep: Any, **how: Any) -> None:
    """Adds a smaller model that learns from the records alone, and one that listens to the run too, in as many steps."""
    loss, size = found["original"]["loss"], found["original"]["bytes"]
    _, guesses = run.measured("original", "test")
    for name, more in (
        ("student-alone", {}),
        ("student-distilled", {"distill": {"from": str(run.job.run.path)}}),
    ):
        if time.monotonic() > until:
            found[name] = {"error": "no time was left"}
            continue
        try:
            small = trained(**how, **more)
            own, said = small.measured("original", "test")
            found[name] = {
                "bytes": small.bytes_of("original"),
                "share": small.bytes_of("original") / size,
                "loss": own,
                "change": own / loss - 1,
                "agreement": (said == guesses).double().mean().item(),
            }
        except Exception:
            found[name] = {"error": traceback.format_exc()}
        show(name, found[name])
        keep(found)


def show(name: str, row: Row) -> None:
    if "error" in row:
        print(f"  {name:42} {row['error'].strip().splitlines()[-1]}", flush=True)
        return
    print(
        f"  {name:42} {row['bytes']:>12,} {row['share']:>7.1%} {row['loss']:>9.5f} {row['change']:>+8.2%} "
        f"{row['agreement']:>7.1%}",
        flush=True,
    )


def marks(found: dict[str, Row]) -> list[Row]:
    """Whether each mark is reached; None where a variant is missing."""

    def mark(what: str, needs: list[str], reached: Any) -> Row:
        there = [found.get(name, {}) for name in needs]
        figures = [{key: each.get(key) for key in ("change", "share")} for each in there]
        whole = all("loss" in each for each in there)
        return {"mark": what, "reached": bool(reached(*there)) if whole else None, "figures": figures}

    def below(most: float) -> Any:
        return lambda one: one["change"] <= most

    def better(one: Row, other: Row) -> bool:
        return bool(one["loss"] < other["loss"])

    half = "pruned-50-{}".format
    most = "pruned-70-{}-recovered".format
    return [
        mark("int8: loss at most +0.1 %", ["int8"], below(0.001)),
        mark("int8: at most 27 % of the bytes", ["int8"], lambda one: one["share"] <= 0.27),
        mark("int4, gptq: loss at most +1 %", ["int4-gptq"], below(0.01)),
        mark("int4: at most 16 % of the bytes", ["int4-gptq"], lambda one: one["share"] <= 0.16),
        mark("int4: gptq better than nearest", ["int4-gptq", "int4-nearest"], better),
        mark("half, wanda: better than magnitude", [half("wanda"), half("magnitude")], better),
        mark("half, sparsegpt: better than magnitude", [half("sparsegpt"), half("magnitude")], better),
        mark("half, wanda, recovered: loss below +5 %", [half("wanda-recovered")], below(0.05)),
        mark("half, sparsegpt, recovered: loss below +5 %", [half("sparsegpt-recovered")], below(0.05)),
        mark("70 %: gradual better than magnitude at once", [most("gradual"), most("magnitude")], better),
        mark("70 %: gradual better than sparsegpt at once", [most("gradual"), most("sparsegpt")], better),
        mark("student: distilled better than alone", ["student-distilled", "student-alone"], better),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--data", type=Path, default=Path(__file__).resolve().parents[1] / "../shared/data/text"
    )
    parser.add_argument("--out", type=Path, default=Path("compression.json"))
    parser.add_argument("--texts", nargs="+", default=list(TEXTS), help="files of --data")
    parser.add_argument("--steps", nargs="+", type=int, help="steps to try; default: by the text")
    parser.add_argument("--seconds", type=float, default=540, help="after which nothing new is begun")
    parser.add_argument("--bytes", type=int, help="of each text; default: all")
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--width", type=int, default=384)
    options = parser.parse_args()

    begun = time.monotonic()
    shape = {"layers": options.layers, "width": options.width}
    result: Row = {
        "benchmark": "compression",
        "device": detect().name,
        "torch": torch.__version__,
        "texts": {},
    }
    for number, text in enumerate(options.texts, 1):
        until = begun + options.seconds * number / len(options.texts)
        now = time.monotonic()
        own: Row = {"tried": {}}
        result["texts"][text] = own

        def keep(found: dict[str, Row], own: Row = own) -> None:
            own |= {"variants": found, "marks": marks(found), "seconds": round(time.monotonic() - begun, 1)}
            partial = options.out.with_suffix(".partial")
            partial.write_text(json.dumps(result, indent=1), encoding="utf-8")
            partial.replace(options.out)

        with tempfile.TemporaryDirectory() as folder, ExitStack() as open_:
            print(text, flush=True)
            data = split_text(options.data / text, Path(folder), options.bytes)
            steps = options.steps or TEXTS[text]
            trials = now + TRIAL_SHARE * (until - now)
            run = well_trained(
                steps, trials, own["tried"], data=data, model=shape, folder=Path(folder), open_=open_
            )
            own |= {"steps": run.job.recipe.train.steps, "validation": run.validation}
            own["parameters"] = sum(weight.numel() for weight in load_network(run.job.store).parameters())
            print(f"  {own['parameters']:,} parameters, {own['steps']} steps on {detect().name}")
            print(
                f"  {'variant':42} {'bytes':>12} {'share':>7} {'loss':>9} {'change':>8} {'same':>7}",
                flush=True,
            )
            found = rows(run, until, keep)
            small = {"layers": max(1, options.layers * 2 // 3), "width": options.width * 2 // 3 // 64 * 64}
            how = {
                "data": data,
                "model": small,
                "steps": own["steps"],
                "folder": Path(folder),
                "open_": open_,
            }
            students(run, until, found, keep, **how)
            keep(found)
        for each in own["marks"]:
            said = {True: "met", False: "MISSED", None: "not measured"}[each["reached"]]
            changes = ", ".join(
                f"{one['change']:+.3%} in {one['share']:.1%}"
                for one in each["figures"]
                if one["change"] is not None
            )
            print(f"  {said:12} {each['mark']} ({changes})", flush=True)


if __name__ == "__main__":
    main()
