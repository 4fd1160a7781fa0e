"""`shuyuan export`: the model, in the clear, in a format that others open."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from ..runs import ORIGINAL
from .frame import AsJson, Debug, Folder, Key, Variant, frame


class Format(StrEnum):
    """What a model can be exported as."""

    huggingface = "huggingface"
    keras = "keras"
    gguf = "gguf"
    onnx = "onnx"


class Weights(StrEnum):
    """How GGUF stores the numbers of matrices."""

    f32 = "f32"
    f16 = "f16"
    bf16 = "bf16"
    q8_0 = "q8_0"


def export(
    run: Folder,
    to: Annotated[Path, typer.Option("--to", help="The folder to make.")],
    kind: Annotated[
        Format | None,
        typer.Option("--as", help="The format. Left out: keras for the family rnn, else huggingface."),
    ] = None,
    variant: Variant = ORIGINAL,
    weights: Annotated[
        Weights, typer.Option(help="gguf: how matrices are stored; nothing else has a choice.")
    ] = Weights.f16,
    in_the_clear: Annotated[
        bool, typer.Option("--open", help="Of a sealed run: write it all the same, in the clear.")
    ] = False,
    key: Key = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Write the model in the clear, for other programs. A folder for transformers or Keras, GGUF for llama.cpp, ONNX for onnxruntime."""
    with frame(as_json, debug) as answer:
        from .. import pipeline

        noted = pipeline.leaves_a_trace(run)
        opened = answer.begin(run, "export", None, None, key) if noted else pipeline.look(run, key)
        with opened as job:
            written = kind.value if kind else pipeline.format_of(job)
            pipeline.export(
                job, to, written, variant=variant, weights=weights.value, in_the_clear=in_the_clear
            )
        if not job.store.sealed:
            answer.screen.say("vault.open", pipeline.NOT_SEALED)
        else:
            answer.screen.show(
                "The export lies in the clear: whoever has it can use it and probe what it memorised."
            )
        if job.recipe.model.family in ("cnn", "ngrams") and written == "huggingface":
            answer.screen.show(
                "Shuyuan alone computes this model; its README.md says how, also as a module of PyTorch. "
                "Written --as onnx, onnxruntime computes it."
            )
        result = {
            "to": str(to),
            "as": written,
            "variant": variant,
            "bytes": sum(f.stat().st_size for f in to.rglob("*") if f.is_file()),
        }
        answer.give(result, lambda: answer.screen.out.print(str(to), soft_wrap=True))
