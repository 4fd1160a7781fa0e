"""The model card: README.md of the model folder, which travels with the model wherever it is exported to.

It is released with the model, so for a sealed run it says nothing about the records but what kind of source they are.
"""

from __future__ import annotations

from pathlib import PurePath
from typing import TYPE_CHECKING

from ..tasks import task_named
from ..tasks.base import Output
from ..visible import visible
from . import guarantee, sources, wording

if TYPE_CHECKING:
    from ..compress import Variant
    from ..data import Manifest
    from ..privacy.data_sets import Together
    from ..recipe import Recipe


def model_card(
    recipe: Recipe,
    manifest: Manifest | None = None,
    data_set: Together | None = None,
    variant: Variant | None = None,
    seen: str | None = None,
) -> str:
    """The card as Markdown with the header that model hubs read.

    Args:
        recipe: as resolved.
        manifest: what was prepared; its counts are told only where the run is open.
        data_set: what all runs on the same data set have spent.
        variant: what was done to make the model smaller.
        seen: what was there to look at for it, in words; None: nothing.

    Example:
        >>> from shuyuan.recipe import check
        >>> card = model_card(check({"name": "notes", "data": {"source": "stdlib"}}, where="recipe"))
        >>> "Not private" in card
        True
    """
    output = task_named(recipe.task).output if manifest is None else manifest.output
    parts = [
        _header(recipe, output),
        f"# {recipe.name}",
        _what(recipe),
        _data(recipe, manifest),
        _privacy(recipe, data_set),
        _use(recipe, output) if variant is None else _smaller(recipe, variant, seen),
        _limits(recipe, output),
    ]
    return "\n\n".join(parts) + "\n"


# What the hub calls a model with such a head, and the class of transformers that opens it.
KINDS: dict[Output, tuple[str, str]] = {
    "tokens": ("text-generation", "AutoModelForCausalLM"),
    "labels": ("text-classification", "AutoModelForSequenceClassification"),
    "spans": ("question-answering", "AutoModelForQuestionAnswering"),
}


def _header(recipe: Recipe, output: Output) -> str:
    tag = "image-classification" if recipe.images else KINDS[output][0]
    library = {"cnn": "shuyuan", "ngrams": "shuyuan", "rnn": "keras"}.get(recipe.model.family, "transformers")
    lines = [f"library_name: {library}", f"pipeline_tag: {tag}", "tags:", "- shuyuan"]
    return "\n".join(["---", *lines, "---"])


def _record(recipe: Recipe) -> str:
    return "image" if recipe.images else "text"


def _what(recipe: Recipe) -> str:
    steps = f" for {wording.count(recipe.train.steps)} steps" if recipe.train.steps else ""
    if recipe.images:
        return _what_of_images(recipe, steps)
    context = f"a context of {wording.count(recipe.model.context)} tokens"
    if recipe.model.from_ is not None:
        lora = f", with LoRA of rank {recipe.train.lora.rank}" if recipe.train.lora else ""
        if recipe.train.lora and recipe.train.lora.base:
            lora += f" beside matrices that were rounded to {recipe.train.lora.base} for it"
        return (
            f"A model for {recipe.task}, trained further{steps}{lora} with Shuyuan, with {context}. "
            f"It started from {visible(_origin(recipe.model.from_))}."
        )
    if recipe.model.family == "ngrams":
        return (
            f"A classifier of n-grams for {recipe.task}, trained from scratch{steps} with Shuyuan: a vector for each n-gram of 1 to "
            f"{recipe.model.longest} tokens, summed, and a head. It has {context}, and a {recipe.tokenizer.kind} tokenizer."
        )
    shape = recipe.model.shape()
    if recipe.model.family == "rnn":
        both = "bidirectional " if recipe.model.bidirectional else ""
        last = ", which predicts the token after a window" if recipe.model.predict == "last" else ""
        return (
            f"A recurrent network for {recipe.task}{last}, trained from scratch{steps} with Shuyuan by Keras on TensorFlow. "
            f"It has {shape['layers']} {both}{recipe.model.cell or 'lstm'} layers of {shape['width']} units, "
            f"{context}, and a {recipe.tokenizer.kind} tokenizer."
        )
    return (
        f"A {recipe.model.family} for {recipe.task}, trained from scratch{steps} with Shuyuan. {_taught(recipe)}"
        f"It has the Qwen3 layout: {shape['layers']} layers of width {shape['width']}, {shape['heads']} attention heads, "
        f"{context}, and a {recipe.tokenizer.kind} tokenizer."
    )


def _what_of_images(recipe: Recipe, steps: str) -> str:
    start = "trained from scratch"
    if recipe.model.from_ is not None:
        start = f"trained further from {visible(_origin(recipe.model.from_))}"
    augmented = f" Images were augmented: {', '.join(recipe.train.augment)}." if recipe.train.augment else ""
    return f"A {recipe.model.size} {recipe.model.family} that tells images apart, {start}{steps} with Shuyuan.{augmented}"


def _taught(recipe: Recipe) -> str:
    if recipe.train.distill is None:
        return ""
    teacher = visible(_origin(recipe.train.distill.from_))
    return f"It learned from {teacher} too, and what that has memorised may have passed to it. "


def _origin(place: str) -> str:
    """The model that was started from; of a path only the last name, since folders tell about the machine."""
    return place if place.startswith("hf:") else f"the model {PurePath(place).name}"


def _data(recipe: Recipe, manifest: Manifest | None) -> str:
    lines = [f"Source: {visible(sources.kind(recipe))}."]
    split = manifest.splits.get("train") if manifest else None
    if split is not None and recipe.vault is None and recipe.privacy is None:
        lines.append(
            f"Trained on {wording.count(split.records)} records"
            + ("." if recipe.images else f", {wording.count(split.tokens)} tokens.")
        )
    if recipe.images:
        return "## Data\n\n" + "\n".join(lines)
    masked = ", ".join(recipe.data.mask)
    lines.append(
        f"Personal data masked before training, as far as patterns find it: {masked}."
        if masked
        else "No personal data was masked before training."
    )
    return "## Data\n\n" + "\n".join(lines)


def _privacy(recipe: Recipe, data_set: Together | None) -> str:
    sealed = (
        "\n\nIn its run this model is sealed: encrypted and authenticated. A copy that was exported is in the clear, and "
        "the seal says nothing about what the weights reveal."
        if recipe.vault
        else ""
    )
    texts = guarantee.sentences(recipe, data_set)
    said = "\n\n".join(" ".join(texts[language]) for language in ("en", "zh"))
    return f"## Privacy\n\n**{guarantee.title(recipe)}.** {said}{sealed}"


def _use(recipe: Recipe, output: Output) -> str:
    export = (
        "Write it as a plain folder first: `shuyuan export RUN --to FOLDER --open`.\n\n"
        if recipe.vault
        else ""
    )
    if recipe.images:
        return (
            f"## How to load it\n\n{export}"
            f"With Shuyuan:\n\n```bash\n{_command(recipe)}\n```\n\n"
            "As a plain module of PyTorch, which reads pixels of 0 to 255, uint8 (images, channels, height, width):\n\n"
            "```python\n"
            "from shuyuan.models import hub\n\n"
            'logits = hub.load_folder("FOLDER").eval()(pixels)\n```'
        )
    auto = KINDS[output][1]
    with_shuyuan = f"## How to load it\n\n{export}With Shuyuan:\n\n```bash\n{_command(recipe)}\n```\n\n"
    if recipe.model.family == "rnn":
        ids = "token ids + 1, and 0 where no token is" if output == "labels" else "token ids"
        return (
            f"{with_shuyuan}With Keras 3, which gives probabilities for {ids} (`tokenizer.json` has them):\n\n```python\n"
            'import keras\n\nmodel = keras.saving.load_model("FOLDER/model.keras")\n```'
        )
    if recipe.model.family == "ngrams":
        return (
            f"{with_shuyuan}No other program computes it. As a plain module of PyTorch, which reads token ids (`tokenizer.json` has them), "
            "-1 where no token is:\n\n```python\n"
            "from shuyuan.models import hub\n\n"
            'logits = hub.load_folder("FOLDER").eval()(tokens)\n```'
        )
    return (
        f"{with_shuyuan}"
        "With transformers:\n\n```python\n"
        f"from transformers import {auto}, AutoTokenizer\n\n"
        f'model = {auto}.from_pretrained("FOLDER")\n'
        'tokenizer = AutoTokenizer.from_pretrained("FOLDER")\n```'
    )


def _command(recipe: Recipe) -> str:
    """How a run of the task is asked."""
    verb, more = task_named(recipe.task).command
    text = '"Once upon a time"' if verb == "generate" else "PICTURE" if recipe.images else '"A text"'
    return f"shuyuan {verb} RUN {text}{more}"


_PRUNED_BY = {
    "magnitude": "those nearest to zero",
    "wanda": "those that add least to what the model computes (Wanda)",
    "sparsegpt": "those whose loss the others make good best (SparseGPT)",
    "gradual": "the smallest, little by little while the others learned",
}


def _smaller(recipe: Recipe, variant: Variant, there: str | None) -> str:
    """What was done to the weights, and how they are used then."""
    done, methods = [], variant.with_records(there is not None)
    if variant.pruned:
        share = wording.percent(variant.pruned)
        done.append(f"{share} of each inner matrix were left out, {_PRUNED_BY[methods.pruning]}")
    if variant.shrunk:
        share = wording.percent(variant.shrunk)
        done.append(f"{share} of the heads and feed-forward channels were taken out, those that add least")
    if variant.shortened:
        share = wording.percent(variant.shortened)
        done.append(f"{share} of the blocks were taken out, those that change the stream least")
    if variant.recover:
        done.append(f"the others were trained for another {variant.recover}")
    if variant.bits < 32:
        wide = ", of embedding and head to 8" if variant.bits < 8 else ""
        how = " so that what the model computes changes least (GPTQ)" if methods.rounding == "gptq" else ""
        done.append(
            f"the weights of matrices were rounded to {variant.bits} bits{how if variant.bits < 8 else ''}{wide}"
        )
    looked = [there] if there and methods.needs_records() else []
    looked += ["some training records"] if variant.recover else []
    seen = " and ".join(dict.fromkeys(looked))
    seen = f"with a look at {seen}" if seen else "without a look at any record"
    faster = (
        f"It has fewer {'heads and channels' if variant.shrunk else 'layers'} than the original, and is faster. "
        if variant.structured
        else ""
    )
    stored = (
        "It takes fewer bytes where it is stored; when it is loaded it becomes float32 again, and is as fast as "
        + ("one that is not rounded. " if variant.structured else "the original. ")
    )
    ordinary = variant.bits == 32 and not variant.pruned
    return (
        f"## How it was made smaller\n\nFrom the trained model, {seen}: {'; '.join(done)}. "
        f"{faster}{'' if ordinary else stored}\n\n"
        f"## How to load it\n\nWith Shuyuan{', or as any model in the layout of Qwen3' if ordinary else ' alone'}:\n\n"
        f"```bash\n{_command(recipe)} --variant {variant.name}\n```"
    )


def _limits(recipe: Recipe, output: Output) -> str:
    what = (
        f"It tells the labels of its training records apart, and gives some of them, or one, to any {_record(recipe)}, also to one that "
        "fits none. Nobody checks what it says."
        if output == "labels"
        else "It points to a place in the text that it is given, or says that the answer is not there, also where it is wrong. Nobody checks "
        "what it says."
        if output == "spans"
        else f"It was trained for {recipe.task}, and answers in the manner of its training records, also where it does not know; it was not "
        "taught to refuse, and what it writes is not checked by anyone."
        if task_named(recipe.task).prompted
        else "It continues text in the manner of its training records. It was not taught to follow instructions, to refuse, or "
        "to be right, and what it writes is not checked by anyone."
    )
    return f"## Limits\n\n{what} Its losses and scores are in the run’s report, each with the split that it was measured on."
