"""What a run is: one TOML file, checked before any work, with every default in one place.

Unknown keys, wrong types and contradictions are refused with the key, what is allowed and the nearest right spelling.
`docs/recipe.md` is generated from the descriptions below.

Long because it is the whole contract of a recipe: every key with its description, and the rules between tables, which no table
could hold alone.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, get_args

import tomli_w
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from .errors import RecipeError

# What DESIGN promises and this version does not have yet. A recipe that asks for it is refused, never half obeyed.
UNAVAILABLE = {
    "evaluate": "further evaluation tasks",
}
BUILT_IN_SOURCES = ("stdlib", "packages", "digits")
OWNED_SOURCES = ("stdlib", "packages")  # built in, and they know their owners
PERSONAL_DATA = ("email", "phone", "national-id", "card", "iban", "ip", "url-credentials")
IMAGE_SIZES = ("textbook", "small", "medium")
SIZES = {"tiny": (4, 128), "small": (6, 256), "medium": (8, 512), "large": (12, 768)}  # name: (layers, width)
NGRAM_SIZES = {"tiny": 2**20, "small": 2**22, "medium": 2**24, "large": 2**26}  # numbers in the table
RNN_SIZES = {"tiny": (1, 128), "small": (1, 384), "medium": (2, 512), "large": (3, 1024)}  # likewise
FAMILY_KEYS = {  # keys of [model] that mean something for some families alone
    ("transformer", "rnn"): ("layers", "width", "dropout"),
    ("transformer",): ("heads", "kv_heads", "hidden", "tied"),
    ("rnn",): ("cell", "bidirectional", "predict"),
    ("ngrams",): ("longest",),
}
# Tokens of the longest n-gram by the kind of tokens: about a word, or two Chinese characters.
LONGEST = {"byte": 6, "char": 4, "bpe": 2}
NGRAM_CONTEXT, MOST_LONGEST = 1024, 16
# What a model to start from says itself, by family.
OWN_SHAPE = {
    "rnn": ("layers", "width", "cell", "bidirectional", "dropout", "predict"),
    "ngrams": ("longest",),
}

# The columns that each task reads, as keys of [data], and those that are filled in where they are left out. The text of a task
# that continues texts, or tells their labels, has a default of its own.
TASK_FIELDS: dict[str, dict[str, str | None]] = {
    "generation": {"title": None},
    "sentiment": {"label": "label"},
    "classification": {"label": "label"},
    "summarization": {"summary": "summary"},
    "translation": {"source_text": "source", "target": "target", "languages": None},
    "question-answering": {"question": "question", "context": None, "answer": "answer"},
    "chat": {"messages": "messages"},
}
WITHOUT_TEXT = ("translation", "question-answering", "chat")  # they read no column `text`
LABELLED_TASKS = ("sentiment", "classification")
MIXABLE_TASKS = ("summarization", *WITHOUT_TEXT)
PROMPTED_TASKS = ("mixed", *MIXABLE_TASKS)
TASK_FIELDS["mixed"] = dict(
    [("task", "task"), *(pair for task in MIXABLE_TASKS for pair in TASK_FIELDS[task].items())]
)
# What these get in a recipe that leaves it out.
PROMPTED_TOKENS = {"kind": "bpe", "vocab_size": 8192}
PROMPTED_CONTEXT, LONGEST_PROMPTED = {"translation": 96}, 512
PROMPTED_BUDGET = "10 min"
LANGUAGE = r"[a-z]{2,3}(-[A-Za-z]{2,8})?"
DATA_SET_NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}"
IMAGE_FAMILIES = ("cnn",)
ONE_LABEL_FAMILIES = ("cnn", "rnn")
MULTI_LABEL_KEYS = ("multi_label", "label_separator")
MOST_LABELS = 65_536
MOST_PIXELS = 4096  # on a side of an image, after resizing

MOST_STEPS, MOST_SEQUENCES = 10**12, 2**24  # beyond: a digit too many, refused before anything loops over it

# Keys of [model] that say nothing of other families.

Maskable = Literal["email", "phone", "national-id", "card", "iban", "ip", "url-credentials"]
Auto = Literal["auto"]
Quantized = Literal["int8", "int4"]
Rounding = Literal["auto", "gptq", "nearest"]
Pruning = Literal["auto", "sparsegpt", "wanda", "magnitude", "gradual"]


class Budget:
    """A training budget: an amount of seconds, steps, tokens or epochs.

    Raises:
        ValueError: when the text is not a positive amount of a known unit.
    """

    UNITS: ClassVar = {
        "s": ("seconds", 1), "sec": ("seconds", 1), "second": ("seconds", 1), "min": ("seconds", 60),
        "minute": ("seconds", 60), "h": ("seconds", 3600), "hour": ("seconds", 3600), "day": ("seconds", 86400),
        "step": ("steps", 1), "token": ("tokens", 1), "epoch": ("epochs", 1),
    }  # fmt: skip
    SCALES: ClassVar = {"": 1, "k": 1e3, "m": 1e6, "b": 1e9}

    def __init__(self, unit: str, amount: float) -> None:
        self.unit = unit
        self.amount = amount

    @classmethod
    def parse(cls, text: str) -> Budget:
        found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kKmMbB]?)\s+([a-z]+?)s?\s*", text) or re.fullmatch(
            r"\s*(\d+(?:\.\d+)?)()([a-z]+?)s?\s*", text
        )
        unit = cls.UNITS.get(found[3] if found[3] else "s") if found else None
        if found is None or unit is None or float(found[1]) == 0:
            raise ValueError(
                'must be a positive amount with its unit, such as "2 min", "300 steps" or "5M tokens"'
            )
        return cls(unit[0], float(found[1]) * cls.SCALES[found[2].lower()] * unit[1])


class Section(BaseModel):
    """A table of the recipe: unknown keys are refused, and nothing changes after it was read."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, populate_by_name=True, validate_default=True
    )


class Data(Section):
    """Where the records come from and what is done to them before training."""

    source: str | list[str] = Field(
        description="File, folder, glob, hf:org/name, or a built-in: stdlib, packages, digits. Text, HTML, Python, JSON, JSONL, "
        "CSV, TSV and Parquet; .gz and .zst of these. Of images: a folder with a folder of images for each label, IDX, .npz, or a table. A relative path starts at the recipe's folder."
    )
    id: str | None = Field(
        None,
        pattern=f"^{DATA_SET_NAME}$",
        description="The data set's name, under which the costs of all private runs on it add up. Left out: it follows from the "
        "real path of `source`, and is filled in; name it yourself where the same records, or the same people's, lie in several places.",
    )
    text: str = Field(
        "text",
        description="The column (or JSON field) that holds the text of a record. A number counts the columns of a table without a "
        'header: "1" is the first; so for all columns.',
    )
    title: str | None = Field(
        None,
        description="The column of the title that stands over each text, for generation: `shuyuan generate --title` then writes a text "
        "to a title. Left out: texts have none.",
    )
    summary: str | None = Field(
        None, description="The column of the summary, for summarization. Left out there: summary."
    )
    source_text: str | None = Field(
        None, description="The column of the text to translate, for translation. Left out there: source."
    )
    target: str | None = Field(
        None, description="The column of its translation, for translation. Left out there: target."
    )
    languages: list[str] | None = Field(
        None,
        description='The languages of `source_text` and `target`: ["en", "zh"]. Left out: English and Chinese, told from each text.',
    )
    question: str | None = Field(
        None, description="The column of the question, for question answering. Left out there: question."
    )
    context: str | None = Field(
        None,
        description="The column of the text that holds the answer, for question answering. Left out there: context where there is "
        "such a column; records without are pairs of question and answer.",
    )
    answer: str | None = Field(
        None,
        description="The column of the answer, for question answering. Left out there: answer. Files in SQuAD's format need none of "
        "these.",
    )
    task: str | None = Field(
        None,
        description="The column that names the task of each record, for mixed tasks; the other columns are those of the tasks. Left out "
        "there: task.",
    )
    messages: str | None = Field(
        None,
        description="The column of the messages, for chat: a list of {role, content}, or ShareGPT's {from, value}. Left out there: "
        "messages, or ShareGPT's conversations, or Alpaca's instruction, input and output.",
    )
    label: str | None = Field(
        None,
        description="The column that holds the label of a record, for tasks that have labels. Left out there: label.",
    )
    labels: list[str] | None = Field(
        None,
        description='The labels that there are, in order, numbers as text: ["0", "1"]. Left out: those of the training split, '
        "sorted.",
    )
    multi_label: bool | None = Field(
        None,
        description="Whether a record may have any number of labels, none too, each told by itself. Left out: where the labels of some "
        "record are a list, or `label_separator` is named; a private run takes one label a record unless it says so here.",
    )
    label_separator: str | None = Field(
        None,
        min_length=1,
        max_length=8,
        description='What stands between the labels of a record where they are one text, as in a CSV: ";". An empty cell is then a record '
        "without labels. Left out: a text is one label, whatever stands in it.",
    )
    image: str | None = Field(
        None,
        description="The column of a table that holds the image, or its path. Left out where images are read: image.",
    )
    image_size: int | list[int] | None = Field(
        None,
        description="Pixels on each side of an image, or [height, width]; images of another size are resized. Left out: the size of "
        "the first image; private training wants it here, unless the source has one size alone (digits, IDX, .npz).",
    )
    channels: int | None = Field(
        None,
        description="1 for grey images, 3 for colour. Left out: as the first image, and as `image_size`.",
    )
    record: Literal["file", "line", "paragraph"] | None = Field(
        None,
        description="What one record of plain text is. Left out: a file in a folder is one record, and a single text "
        "file is cut into contiguous blocks, the last ones held out.",
    )
    owner: str | None = Field(
        None,
        description="The column that says whom a record is about. Left out: each record is its own owner.",
    )
    mask: list[Maskable] = Field(
        [], description="Kinds of personal data that are replaced by a tag: " + ", ".join(PERSONAL_DATA) + "."
    )
    mask_patterns: dict[str, str] = Field(
        {}, description="Your own patterns to mask, name = regular expression (RE2 syntax, linear time)."
    )
    mask_names: bool = Field(
        False, description="Also mask names, places and organisations with presidio (extra `presidio`, slow)."
    )
    validation: float | str = Field(
        0.1, description="The share of owners held out to measure the model, or the path of a separate file."
    )
    test: float | str | None = Field(
        None,
        description="A second held-out share or path, looked at once, at the end. Left out: no test split.",
    )
    min_chars: int = Field(1, ge=1, description="Shorter records are skipped and counted.")
    max_chars: int | None = Field(
        None, ge=1, description="Longer records are skipped and counted. Left out: no limit."
    )
    duplicates: Literal["near", "exact", "keep"] = Field(
        "near",
        description="Which duplicates are removed: near (MinHash, Jaccard 0.8) and exact ones, exact ones, none.",
    )

    @field_validator("source")
    @classmethod
    def _some_source(cls, source: str | list[str]) -> str | list[str]:
        if not source or (isinstance(source, list) and not all(source)):
            raise ValueError("names no file")
        return source

    @field_validator("labels")
    @classmethod
    def _classes(cls, labels: list[str] | None) -> list[str] | None:
        if labels is None:
            return None
        if not 2 <= len(labels) <= MOST_LABELS:
            raise ValueError(f"must be between 2 and {MOST_LABELS:,} labels")
        if len(set(labels)) < len(labels) or not all(label.strip() for label in labels):
            raise ValueError("must be labels that differ, none of them empty")
        return labels

    @field_validator("languages")
    @classmethod
    def _two(cls, languages: list[str] | None) -> list[str] | None:
        if languages is not None and (
            len(set(languages)) != 2
            or len(languages) != 2
            or not all(re.fullmatch(LANGUAGE, each) for each in languages)
        ):
            raise ValueError('must be two languages by their codes, such as ["en", "zh"]')
        return languages

    @field_validator("image_size")
    @classmethod
    def _sides(cls, size: int | list[int] | None) -> int | list[int] | None:
        sides = size if isinstance(size, list) else [1 if size is None else size] * 2
        if len(sides) != 2 or not all(1 <= side <= MOST_PIXELS for side in sides):
            raise ValueError(f"must be one number or [height, width], each between 1 and {MOST_PIXELS:,}")
        return size

    @field_validator("channels")
    @classmethod
    def _colours(cls, channels: int | None) -> int | None:
        if channels not in (None, 1, 3):
            raise ValueError("must be 1 (grey) or 3 (colour)")
        return channels

    @field_validator("validation", "test")
    @classmethod
    def _a_share(cls, share: float | str | None) -> float | str | None:
        if isinstance(share, float) and not 0 < share < 0.9:
            raise ValueError("must lie between 0 and 0.9, or be a path")
        return share


class Tokenizer(Section):
    """How text becomes token ids."""

    kind: Literal["byte", "char", "bpe"] = Field(
        "byte",
        description="byte (256 values, nothing learned), char (the characters of the training text), bpe (learned). A recipe for a task "
        "with prompts that says nothing of tokens, network and privacy gets bpe of 8,192, the size tiny, a context of 512 (translation: 96) "
        "and ten minutes.",
    )
    vocab_size: int = Field(
        4096,
        ge=260,
        le=1_000_000,
        description="Entries of a bpe vocabulary, at most: a piece is learned of what stands together at least ten times.",
    )
    from_: str | None = Field(
        None,
        alias="from",
        description="A tokenizer.json to use as it is, or a model folder or run that has one; `kind` and `vocab_size` then "
        "do nothing.",
    )


class Model(Section):
    """The network."""

    family: Literal["transformer", "cnn", "rnn", "ngrams"] = Field(
        "transformer",
        description="The architecture: transformer (the Qwen3 layout); cnn (reads images); rnn (recurrent, Keras on TensorFlow, extra "
        "`tensorflow`); ngrams (tells labels of texts, in seconds). Left out, texts with labels get ngrams, unless "
        "a model to start from or a transformer's own key is named.",
    )
    size: Literal["tiny", "small", "medium", "large", "textbook"] = Field(
        "small",
        description="transformer: layers x width, tiny 4x128, small 6x256, medium 8x512, large 12x768. rnn: 1x128, 1x384, 2x512, "
        "3x1024. cnn: textbook (one convolution, pooling, a hidden layer), small or medium (residual, with group norms). ngrams: 1, 4, 17 or 67 "
        "million numbers.",
    )
    layers: int | None = Field(
        None, ge=1, le=1024, description="Number of blocks, or of recurrent layers. Left out: from `size`."
    )
    width: int | None = Field(
        None,
        ge=8,
        le=65536,
        description="Width of the residual stream, or units of a recurrent layer. Left out: from `size`.",
    )
    cell: Literal["lstm", "gru", "simple"] | None = Field(
        None, description="rnn: the recurrent cell; simple is the textbook's SimpleRNN. Left out: lstm."
    )
    bidirectional: bool | None = Field(
        None, description="rnn that tells labels: read the text from both ends. Left out: false."
    )
    dropout: float | None = Field(
        None,
        ge=0,
        lt=1,
        description="Share of what layers say that is left out at random in training. rnn: left out, 0. Of a model to start from that "
        "transformers computes: left out, what its folder says; drawing it takes a fifth of a step on a CPU.",
    )
    predict: Literal["every", "last"] | None = Field(
        None,
        description="rnn: predict the next token at every position, or, as in the textbook, only the one after the window. "
        "Left out: every.",
    )
    longest: int | None = Field(
        None,
        ge=1,
        le=MOST_LONGEST,
        description="ngrams: tokens of the longest n-gram. Left out: 6 of bytes, 4 of characters, 2 of a bpe or given tokenizer.",
    )
    heads: int | None = Field(
        None, ge=1, le=65536, description="Attention heads. Left out: width / 64, at least 2."
    )
    kv_heads: int | None = Field(
        None, ge=1, le=65536, description="Key-value heads (grouped-query attention). Left out: as `heads`."
    )
    hidden: int | None = Field(
        None,
        ge=8,
        le=2**20,
        description="Width of the SwiGLU layer. Left out: 8/3 of width, to a multiple of 32.",
    )
    context: int = Field(
        256,
        ge=8,
        le=1_048_576,
        description="Tokens that the model sees at once. Left out for ngrams: 1024.",
    )
    tied: bool | None = Field(
        None, description="Embedding and output head share their weights. Left out: true."
    )
    from_: str | None = Field(
        None,
        alias="from",
        description="Start from these weights: a Hugging Face folder, another run, sealed or not, or hf:org/name; for an rnn a "
        ".keras file or another run. Its tokenizer is used too, unless [tokenizer] says otherwise; a .keras file has none.",
    )

    @model_validator(mode="after")
    def _of_the_family(self) -> Model:
        """Sizes and keys that the family has."""
        sizes = IMAGE_SIZES if self.family in IMAGE_FAMILIES else tuple(SIZES)
        if self.size not in sizes:
            raise ValueError(
                f'size: "{self.size}" is no size of the family {self.family}, which has {", ".join(sizes)}'
            )
        if self.family in IMAGE_FAMILIES and self.context != Model.model_fields["context"].default:
            raise ValueError(f"context: is set, and the family {self.family} has no such thing")
        for family, keys in FAMILY_KEYS.items():
            for key in keys if self.family not in family else ():
                if getattr(self, key) is not None:
                    raise ValueError(
                        f"{key}: is set, and the family {self.family} has no such thing; it is for {' and '.join(family)}"
                    )
        if self.family == "transformer" and self.dropout is not None and self.from_ is None:
            raise ValueError("dropout: the transformer of this house has none; a model to start from may")
        if self.from_ is not None:
            for key in OWN_SHAPE.get(self.family, ()):
                if getattr(self, key) is not None:
                    raise ValueError(
                        f"{key}: is what the model to start from says, so it cannot be set beside model.from"
                    )
        return self

    @model_validator(mode="after")
    def _fits_together(self) -> Model:
        if self.family != "transformer":
            return self
        shape = self.shape()
        if shape["width"] % shape["heads"]:
            raise ValueError(f"heads: {shape['heads']} does not divide width {shape['width']}")
        if shape["heads"] % shape["kv_heads"]:
            raise ValueError(f"kv_heads: {shape['kv_heads']} does not divide heads {shape['heads']}")
        if shape["width"] // shape["heads"] % 2:
            raise ValueError(f"heads: width / heads must be even, not {shape['width'] // shape['heads']}")
        return self

    def shape(self) -> dict[str, int]:
        """Layers and width, and of a transformer heads, kv_heads and hidden, with every gap filled from `size`."""
        layers, width = (RNN_SIZES if self.family == "rnn" else SIZES)[self.size]
        layers, width = self.layers or layers, self.width or width
        if self.family == "rnn":
            return {"layers": layers, "width": width}
        heads = self.heads or max(2, width // 64)
        hidden = self.hidden or max(32, round(width * 8 / 3 / 32) * 32)
        return {
            "layers": layers,
            "width": width,
            "heads": heads,
            "kv_heads": self.kv_heads or heads,
            "hidden": hidden,
        }


class Lora(Section):
    """Low-rank adaptation: the model to start from stays as it is, and small matrices beside its own learn."""

    rank: int = Field(16, ge=1, le=4096, description="Columns of the small matrices.")
    alpha: float | None = Field(
        None, gt=0, le=1e6, description="Their product counts alpha / rank times. Left out: 2 · rank."
    )
    dropout: float = Field(0.0, ge=0, lt=1, description="Share of their input that is left out at random.")
    targets: list[str] = Field(
        [],
        description='Names of the matrices, such as ["q_proj", "v_proj"], or parts of their paths, such as ["layers.11"] for all of '
        "one block. Left out: all inside the blocks.",
    )


class Distill(Section):
    """Learning from a teacher too: what a larger model holds for likely at each place, beside what stands in the records."""

    from_: str = Field(
        alias="from",
        min_length=1,
        description="The teacher: another run, sealed or not, a Hugging Face folder, or hf:org/name, of the same task. Its tokenizer is "
        "used, unless [tokenizer] names one.",
    )
    temperature: float = Field(
        2.0,
        ge=0.1,
        le=100,
        description="Both models' logits are divided by it: above 1, what is unlikely counts more.",
    )
    share: float = Field(
        0.5, gt=0, le=1, description="Of the loss that is the teacher's; the rest is the records'."
    )


class Train(Section):
    """How long and how the model learns."""

    budget: str = Field(
        "2 min",
        description='A time ("20 s", "2 min", "3 h"), "300 steps", "5M tokens" or "3 epochs". A time ends early where texts were passed over '
        "four times (as bytes six times), in at least 50 steps: more is learned by heart; not of private records, nor of images.",
    )
    steps: int | None = Field(
        None,
        ge=1,
        le=MOST_STEPS,
        description="Optimizer steps. Filled in from `budget` once, before step 1; where it stands, it rules.",
    )
    batch_size: int | Auto = Field(
        "auto", description="Sequences an optimizer step. auto: from the model's size; never measured."
    )
    micro_batch: int | Auto = Field(
        "auto",
        description="Sequences computed at once; gradients add up to batch_size. auto: what memory holds.",
    )
    precision: Literal["auto", "bf16", "fp16", "fp32"] = Field(
        "auto",
        description="auto: bf16 where the hardware has it, else fp16 with loss scaling on a GPU, else fp32.",
    )
    schedule: Literal["constant", "linear", "cosine", "wsd", "plateau"] = Field(
        "wsd",
        description="Learning rate over time; wsd: warm up, stay, decay. plateau follows the validation loss.",
    )
    warmup: float = Field(
        0.02, ge=0, lt=1, description="Share of the steps in which the learning rate rises from zero."
    )
    decay: float = Field(0.4, ge=0, le=1, description="Share of the steps in which wsd decays to zero.")
    optimizer: Literal["auto", "muon", "adamw", "sgd"] = Field(
        "auto",
        description="muon: Muon for the matrices inside the blocks, AdamW for all else. auto: muon; adamw for LoRA and for "
        "architectures other than the built-in one.",
    )
    learning_rate: float | Auto = Field(
        "auto",
        description="Peak learning rate of the matrices, on AdamW's scale; embedding and norms follow by a fixed factor. "
        "auto: from optimizer and width.",
    )
    weight_decay: Annotated[float, Field(ge=0)] | Auto = Field(
        "auto",
        description="Decoupled weight decay, times the learning rate, on the matrices inside blocks only. auto: 0.1, and 0.0005 of SGD, "
        "whose rates are a hundred times as high.",
    )
    grad_clip: float = Field(1.0, ge=0, description="The gradient's norm is cut to this; 0 leaves it alone.")
    augment: list[Literal["shift", "rotate", "flip"]] = Field(
        [],
        description="How each image is changed, anew at every step: shift (by up to a tenth), rotate (by up to 15 degrees), flip "
        "(left and right).",
    )
    checkpoint_every: str = Field(
        "1 min", description='A time or "20 steps". When checkpoints fall never changes the result.'
    )
    lora: Lora | None = Field(None, description=Lora.__doc__)
    distill: Distill | None = Field(None, description=Distill.__doc__)
    sharded: bool = Field(
        False,
        description="Under torchrun: each rank holds a share of weights, gradients and optimizer state (FSDP2) instead of all of them, "
        "and activations are computed twice. The result is the same but for rounding.",
    )
    keep: int = Field(2, ge=1, description="Checkpoints kept; older ones are removed.")
    evaluations: int = Field(
        10, ge=0, le=100_000, description="How often the validation loss is measured during training."
    )

    @field_validator("batch_size", "micro_batch")
    @classmethod
    def _positive(cls, size: int | str) -> int | str:
        if isinstance(size, int) and not 1 <= size <= MOST_SEQUENCES:
            raise ValueError(f"must lie between 1 and {MOST_SEQUENCES:,}")
        return size

    @field_validator("learning_rate")
    @classmethod
    def _learns(cls, rate: float | str) -> float | str:
        if isinstance(rate, float) and not 0 < rate < 100:
            raise ValueError("must be above 0 and below 100")
        return rate

    @field_validator("budget")
    @classmethod
    def _budget(cls, text: str) -> str:
        Budget.parse(text)
        return text

    @field_validator("checkpoint_every")
    @classmethod
    def _interval(cls, text: str) -> str:
        if Budget.parse(text).unit not in ("seconds", "steps"):
            raise ValueError('must be a time or a number of steps, such as "1 min" or "20 steps"')
        return text

    @model_validator(mode="after")
    def _micro_divides(self) -> Train:
        if (
            isinstance(self.batch_size, int)
            and isinstance(self.micro_batch, int)
            and self.batch_size % self.micro_batch
        ):
            raise ValueError(f"micro_batch: {self.micro_batch} does not divide batch_size {self.batch_size}")
        if self.schedule == "wsd" and self.warmup + self.decay > 1:
            raise ValueError(f"decay: warmup {self.warmup} and decay {self.decay} together exceed 1")
        if self.schedule == "plateau" and self.evaluations == 0:
            raise ValueError(
                "evaluations: the plateau schedule follows the validation loss, so it cannot be 0"
            )
        return self


class Privacy(Section):
    """Differential privacy: leave the table out and training is not private, and every output says so."""

    epsilon: float | None = Field(
        None, gt=0, le=1000, description="ε: what the whole training may cost. Give it or `noise_multiplier`."
    )
    noise_multiplier: float | None = Field(
        None, gt=0, le=10_000, description="The noise's deviation over the clip; ε then follows from it."
    )
    delta: float | Auto = Field("auto", description="δ. auto: min(1e-5, 1/(10 · units)).")
    unit: Literal["owner", "record"] = Field(
        "owner", description="What is protected: an owner with all records, or one record."
    )
    clip: float | Auto = Field(
        1.0, description="The largest norm of one unit's part of a step. auto: each is brought to norm 1."
    )
    clipping: Literal["joint", "per-layer"] = Field(
        "joint",
        description="joint: one norm over all parameters. per-layer: one for each, which takes less memory.",
    )
    records_per_unit: int = Field(
        1,
        ge=1,
        le=1024,
        description="The most records that a unit gives to a step; all of them are clipped jointly.",
    )
    allow: list[Literal["tokenizer", "plateau", "labels", "scores", "tuning"]] = Field(
        [],
        description="Leaks accepted by name, which the guarantee does not cover and the ledger lists: a tokenizer learned "
        "from the records; a plateau schedule, which follows the validation loss; labels found in the records instead of "
        "named by `data.labels`; the model's scores on held-out records in the public report; tuning, settings chosen after "
        "looking at other runs on the same records.",
    )
    insecure_seed: int | None = Field(
        None,
        ge=0,
        lt=2**63,
        description="For tests alone: sampling and noise follow from this number, which anybody can guess.",
    )

    @field_validator("delta")
    @classmethod
    def _a_chance(cls, delta: float | str) -> float | str:
        if isinstance(delta, float) and not 0 < delta < 1:
            raise ValueError("must lie between 0 and 1")
        return delta

    @field_validator("clip")
    @classmethod
    def _a_norm(cls, clip: float | str) -> float | str:
        if isinstance(clip, float) and not 0 < clip < 1e6:
            raise ValueError("must be above 0 and below a million")
        return clip

    @model_validator(mode="after")
    def _one_of_two(self) -> Privacy:
        if (self.epsilon is None) == (self.noise_multiplier is None):
            raise ValueError("epsilon: give it or noise_multiplier, one of the two")
        return self


class Audit(Section):
    """The one-run audit of privacy: what must be planted before training."""

    canaries: int = Field(
        0,
        ge=0,
        le=1_000_000,
        description="Made-up records, each put into the training split by a fair secret coin; `shuyuan audit` asks the model "
        "which it has seen. 1000 can show an ε of up to about 6.",
    )


class Vault(Section):
    """Sealing: leave the table out and the run is open."""

    key: str = Field(description="Where the key is: env:NAME, file:PATH, prompt, or command:SHELL COMMAND.")

    @field_validator("key")
    @classmethod
    def _a_place(cls, key: str) -> str:
        if key != "prompt" and not re.fullmatch(r"(env|file|command):.+", key, re.DOTALL):
            raise ValueError(
                "must be env:NAME, file:PATH, prompt or command:SHELL COMMAND (never the key itself)"
            )
        return key


class Compress(Section):
    """Smaller variants of the trained model, each kept and scored beside it: leave the table out and there are none."""

    quantize: Quantized | list[Quantized] | None = Field(
        None,
        description="Weights as whole numbers: int8, int4, or both in a list. At 4 bits the embedding and the head have 8.",
    )
    prune: float | list[float] | None = Field(
        None,
        description="The share of the weights of each matrix that are left out: above 0 and below 1, or several in a "
        "list. With `quantize` there is also a variant that is pruned and rounded.",
    )
    shrink: float | list[float] | None = Field(
        None,
        description="The share of the heads and of the feed-forward channels that are taken out whole, of the family transformer: above 0 "
        "and below 1, or several in a list. The variant is an ordinary model, and faster.",
    )
    shorten: float | list[float] | None = Field(
        None,
        description="The share of the blocks that are taken out whole, of the family transformer: above 0 and below 1, or several in a "
        "list. The variant is an ordinary model of fewer layers, and faster.",
    )
    rounding: Rounding | list[Rounding] = Field(
        "auto",
        description="How int4 rounds: to the nearest code (nearest), or so that what the model computes changes least (gptq). auto is "
        "gptq where the model runs in PyTorch and there are records to look at. Several in a list make a variant each.",
    )
    pruning: Pruning | list[Pruning] = Field(
        "auto",
        description="Which weights are left out: the smallest (magnitude), those that add least to what the model computes (wanda), or "
        "those whose loss the others make good best (sparsegpt). auto is sparsegpt where `rounding` would be gptq. gradual takes out the "
        "smallest little by little while `recover` trains. Several in a list make a variant each.",
    )
    recover: str | None = Field(
        None,
        description='How long a pruned model is trained again, such as "200 steps" or "1 epochs", with what is left out held at zero. '
        "Left out: not at all.",
    )

    calibrate: str | None = Field(
        None,
        min_length=1,
        description="Records that methods look at, as `data.source`; for images a picture or a folder of some. Left out: training "
        "records; of a private run, texts that the model writes. Of a private run they must be public.",
    )

    @property
    def kinds(self) -> list[Quantized]:
        """What `quantize` lists."""
        return self.quantize if isinstance(self.quantize, list) else [self.quantize] if self.quantize else []

    @property
    def shares(self) -> list[float]:
        """What `prune` lists."""
        return self.prune if isinstance(self.prune, list) else [self.prune] if self.prune is not None else []

    @property
    def shrunk(self) -> list[float]:
        """What `shrink` lists."""
        return (
            self.shrink if isinstance(self.shrink, list) else [self.shrink] if self.shrink is not None else []
        )

    @property
    def shortened(self) -> list[float]:
        """What `shorten` lists."""
        if self.shorten is None:
            return []
        return self.shorten if isinstance(self.shorten, list) else [self.shorten]

    @property
    def roundings(self) -> list[Rounding]:
        """What `rounding` lists."""
        return self.rounding if isinstance(self.rounding, list) else [self.rounding]

    @property
    def prunings(self) -> list[Pruning]:
        """What `pruning` lists."""
        return self.pruning if isinstance(self.pruning, list) else [self.pruning]

    @model_validator(mode="after")
    def _something(self) -> Compress:
        for key, shares, what in (
            ("prune", self.shares, "weights"),
            ("shrink", self.shrunk, "heads and channels"),
            ("shorten", self.shortened, "blocks"),
        ):
            if not all(0 < share < 1 for share in shares):
                raise ValueError(f"{key}: must lie above 0 and below 1: the share of the {what} to leave out")
            if any(round(100 * share, 4) != round(100 * share) for share in shares):
                raise ValueError(f"{key}: must be whole percents, such as 0.5; the variant is named by them")
        if not (self.kinds or self.shares or self.shrunk or self.shortened):
            raise ValueError(
                'quantize: asks for nothing; write quantize = "int8", prune = 0.5, or take the table out'
            )
        self._check_recovery()
        named: dict[str, Sequence[Any]] = {
            "quantize": self.kinds,
            "prune": self.shares,
            "shrink": self.shrunk,
            "shorten": self.shortened,
            "rounding": self.roundings,
            "pruning": self.prunings,
        }
        for key, given in named.items():
            if len(set(given)) < len(given):
                raise ValueError(f"{key}: names the same thing twice")
            if not given and key in ("rounding", "pruning"):
                raise ValueError(f'{key}: names nothing; write "auto" or leave it out')
        for key, needs, there in (
            ("rounding", 'quantize = "int4"', "int4" in self.kinds), ("pruning", "a share as prune", bool(self.shares)),
        ):  # fmt: skip
            if named[key] != ["auto"] and not there:
                raise ValueError(f"{key}: has no effect without {needs}")
        return self

    def _check_recovery(self) -> None:
        if self.recover is not None:
            if not (self.shares or self.shrunk or self.shortened):
                raise ValueError("recover: has no effect without a share as prune, shrink or shorten")
            try:
                timed = Budget.parse(self.recover).unit == "seconds"
            except ValueError as error:
                raise ValueError(f"recover: {error}") from None
            if timed:
                raise ValueError('recover: must be steps, tokens or epochs, such as "200 steps"')
        elif "gradual" in self.prunings:
            raise ValueError(
                'pruning: "gradual" goes on while `recover` trains; say how long, such as recover = "200 steps"'
            )


class Report(Section):
    """What a run shows of itself."""

    open: bool = Field(
        False,
        description="Write the whole report in the clear although the run is sealed: losses, counts and samples too. "
        "For records that may be shown.",
    )
    tensorboard: bool = Field(
        False,
        description="Also write losses, learning rate, speed and ε as TensorBoard's event files, into the run's folder tensorboard, while "
        "it trains. Numbers alone, never texts; of a private run the learning rate and ε. They lie in the clear, so not of a sealed run.",
    )


class Recipe(Section):
    """Everything a run needs: a run is a pure function of recipe, data and seed."""

    name: str = Field(
        "run",
        pattern=f"^{DATA_SET_NAME}$",
        description="The run's name; its folder is runs/NAME.",
    )
    task: Literal[
        "generation",
        "chat",
        "translation",
        "question-answering",
        "summarization",
        "mixed",
        "sentiment",
        "classification",
    ] = Field(
        "generation",
        description="What the model is for: continuing texts (generation), replying (chat), translation, question answering, "
        "summarization, several of the last four (mixed), or telling the label of a text (sentiment, classification) or of an image "
        "(classification).",
    )
    seed: int = Field(1, ge=0, lt=2**63, description="Start of every random choice.")
    data: Data = Field(description=Data.__doc__)
    tokenizer: Tokenizer = Field(Tokenizer(), description=Tokenizer.__doc__)
    model: Model = Field(Model(), description=Model.__doc__)
    train: Train = Field(Train(), description=Train.__doc__)
    privacy: Privacy | None = Field(None, description=Privacy.__doc__)
    audit: Audit = Field(Audit(), description=Audit.__doc__)
    vault: Vault | None = Field(None, description=Vault.__doc__)
    compress: Compress | None = Field(None, description=Compress.__doc__)
    report: Report = Field(Report(), description=Report.__doc__)
    resolved: dict[str, Any] = Field(
        {},
        description="Filled in by Shuyuan: versions of libraries, the data's keyed fingerprint, the machine.",
    )

    @property
    def images(self) -> bool:
        """Whether the records are images, not texts."""
        return self.model.family in IMAGE_FAMILIES

    @property
    def multi_label(self) -> bool | None:
        """Whether a record may have any number of labels; None: its records say so. Private ones may not."""
        if self.data.multi_label is not None or self.data.label_separator is not None:
            return self.data.multi_label is not False
        return False if self.privacy is not None or self.model.family in ONE_LABEL_FAMILIES else None

    @model_validator(mode="after")
    def _pictured(self) -> Recipe:
        """Images where the family reads some, and nowhere else."""
        if self.images and self.task != "classification":
            raise ValueError(
                f'task: the family {self.model.family} tells images apart; write task = "classification"'
            )
        for key in () if self.images else ("image", "image_size", "channels"):
            if getattr(self.data, key) is not None:
                raise ValueError(f"data.{key}: is set, and the family {self.model.family} reads no images")
        if self.train.augment and not self.images:
            raise ValueError(f"train.augment: is set, and the family {self.model.family} reads no images")
        if self.images and self.train.lora is not None:
            raise ValueError(
                f"train.lora: the family {self.model.family} is trained whole; take the table out"
            )
        if self.images and Budget.parse(self.train.budget).unit == "tokens":
            raise ValueError('train.budget: images have no tokens; give a time, "300 steps" or "3 epochs"')
        return self

    @model_validator(mode="after")
    def _labelled(self) -> Recipe:
        """Labels where the task has some, and nowhere else."""
        if self.task not in LABELLED_TASKS:
            for key in ("label", "labels", *MULTI_LABEL_KEYS):
                if getattr(self.data, key) is not None:
                    raise ValueError(f"data.{key}: is set, and the task {self.task} has no labels")
            return self
        for key in MULTI_LABEL_KEYS if self.model.family in ONE_LABEL_FAMILIES else ():
            if getattr(self.data, key):
                raise ValueError(f"data.{key}: is set, and the family {self.model.family} tells one label")
        if self.data.multi_label is False and self.data.label_separator is not None:
            raise ValueError("data.label_separator: has no effect beside multi_label = false")
        kind, column = ("image", self.data.image) if self.images else ("text", self.data.text)
        if self.data.label == column:
            raise ValueError(f"data.label: names the column of the {kind}, {column}")
        if self.audit.canaries:
            raise ValueError(
                f"audit.canaries: planted canaries are texts to continue, which the task {self.task} has none of yet"
            )
        return self

    @model_validator(mode="after")
    def _fields(self) -> Recipe:
        """Columns that the task reads, each another one."""
        own = TASK_FIELDS[self.task]
        for fields in TASK_FIELDS.values():
            for key in fields:
                if key not in own and getattr(self.data, key) is not None:
                    raise ValueError(f"data.{key}: is set, and the task {self.task} reads no such column")
        if self.task in WITHOUT_TEXT and self.data.text != Data.model_fields["text"].default:
            raise ValueError(f"data.text: is set, and the task {self.task} reads {', '.join(own)} instead")
        if self.task not in PROMPTED_TASKS:
            return self
        columns = list(self.columns.values())
        if len(set(columns)) < len(columns):
            raise ValueError(f"data.{list(own)[-1]}: names a column that is named for another field too")
        if self.data.record is not None:
            raise ValueError(
                f"data.record: is set, and the task {self.task} reads tables (.csv, .tsv, .jsonl, .json, .parquet)"
            )
        if self.audit.canaries:
            raise ValueError(
                f"audit.canaries: planted canaries are texts to continue, which the task {self.task} has none of yet"
            )
        return self

    @property
    def columns(self) -> dict[str, str]:
        """The columns that the task reads, by field."""
        fields = [key for key in TASK_FIELDS[self.task] if key not in ("languages",)]
        fields = fields if self.task in WITHOUT_TEXT else ["text", *fields]
        return {key: column for key in fields if (column := getattr(self.data, key)) is not None}

    @model_validator(mode="after")
    def _recurrent(self) -> Recipe:
        """What the rnn family does not do, or not with this task."""
        if self.model.family != "rnn":
            return self
        labelled, train = self.task in LABELLED_TASKS, self.train
        refused = {
            "model.bidirectional": self.model.bidirectional and not labelled
            and "would see the tokens that it shall predict; it is for tasks with labels",
            "model.predict": (self.model.predict is not None and labelled
            and f"the task {self.task} predicts labels, and no tokens")
            or (self.model.predict == "last" and self.task in PROMPTED_TASKS
            and f'is "last", and the task {self.task} learns whole answers; use "every"'),
            "train.lora": train.lora is not None and "adapts matrices of transformers alone",
            "train.precision": train.precision == "fp16" and "fp16 is not offered for the family rnn; use bf16 or fp32",
            "train.optimizer": train.optimizer == "muon"
            and "muon is not offered for the family rnn: its kernels hold four matrices side by side; use adamw or sgd",
            "train.micro_batch": self.privacy is None and train.micro_batch not in ("auto", train.batch_size)
            and "the family rnn computes a batch at once; leave it out, or set batch_size lower",
            "privacy": self.privacy is not None and self.model.predict == "last"
            and 'records are too short to give windows; use model.predict = "every"',
            "audit.canaries": self.audit.canaries > 0 and self.model.predict == "last"
            and 'are told by the loss of every token; use model.predict = "every"',
        }  # fmt: skip
        for key, why in refused.items():
            if why:
                raise ValueError(f"{key}: {why}")
        return self

    @model_validator(mode="after")
    def _of_ngrams(self) -> Recipe:
        """What the family ngrams does not do."""
        if self.model.family != "ngrams":
            return self
        if self.task not in LABELLED_TASKS:
            raise ValueError(
                f'model.family: "ngrams" tells labels of texts apart, and the task is {self.task}'
            )
        if self.train.lora is not None:
            raise ValueError("train.lora: the family ngrams is trained whole; take the table out")
        if self.train.optimizer == "muon":
            raise ValueError(
                "train.optimizer: muon is for matrices inside blocks, and the family ngrams has none; use adamw or sgd"
            )
        return self

    @model_validator(mode="after")
    def _adapts_something(self) -> Recipe:
        if self.train.lora is not None and self.model.from_ is None:
            raise ValueError("train.lora: there is nothing to adapt without model.from")
        return self

    @model_validator(mode="after")
    def _taught(self) -> Recipe:
        """A teacher where one can be listened to."""
        if self.train.distill is None:
            return self
        if self.model.family in ("rnn", "ngrams"):
            raise ValueError(
                f"train.distill: the family {self.model.family} has no teachers; take the table out"
            )
        if self.privacy is not None:
            raise ValueError(
                "train.distill: a private run does not listen to a teacher, whose word on each record no clip bounds; train the teacher "
                "privately, and the student without [privacy] on public records or on texts that the teacher wrote"
            )
        return self

    @model_validator(mode="after")
    def _in_the_clear(self) -> Recipe:
        """Nothing lies in the clear that a sealed run seals."""
        if self.report.tensorboard and self.vault is not None:
            raise ValueError(
                "report.tensorboard: event files lie in the clear, and what a sealed run measures is sealed; take it out: "
                "`shuyuan report RUN --to FILE` draws the same curves"
            )
        return self

    @model_validator(mode="after")
    def _private(self) -> Recipe:
        """What would steer training by records outside of the mechanism, or leave the unit undefined."""
        if self.privacy is None:
            return self
        allow = self.privacy.allow
        if self.train.schedule == "plateau" and "plateau" not in allow:
            raise ValueError(
                'train.schedule: plateau follows the validation loss, which privacy does not cover; allow = ["plateau"] accepts that'
            )
        if self.train.precision == "fp16":
            raise ValueError(
                "train.precision: fp16 scales by what the gradients are, which privacy does not cover"
            )
        if self.tokenizer.from_ is None and self.tokenizer.kind != "byte" and "tokenizer" not in allow:
            raise ValueError(
                f"tokenizer.kind: {self.tokenizer.kind} is learned from the records, which privacy does not cover; "
                'use byte or a public one with tokenizer.from; privacy.allow = ["tokenizer"] accepts the leak'
            )
        if self.task in LABELLED_TASKS and self.data.labels is None and "labels" not in allow:
            raise ValueError(
                "data.labels: is left out, and names found in the records are learned from them, which privacy does not cover; "
                'name the labels, or accept the leak with privacy.allow = ["labels"]'
            )
        if self.report.open:
            raise ValueError(
                "report.open: losses, counts and samples of a private run are not covered, and stay inside; "
                'privacy.allow = ["scores"] puts the scores alone into the public report'
            )
        if self.privacy.unit == "owner" and self.data.owner is None and self.data.source not in OWNED_SOURCES:
            raise ValueError(
                'privacy.unit: "owner" needs data.owner, the column that says whom a record is about; or take unit = "record"'
            )
        return self

    def as_toml(self) -> str:
        """The recipe as TOML, every key that has a value written out."""
        return tomli_w.dumps(self.model_dump(by_alias=True, exclude_none=True))

    def replace(self, **changes: Any) -> Recipe:
        """A copy with dotted keys changed: `recipe.replace(**{"train.steps": 300})`."""
        table = self.model_dump(by_alias=True, exclude_none=True)
        for key, value in changes.items():
            _put(table, key, value)
        return check(table, where="recipe")


# ---- reading -------------------------------------------------------------------------------------------------------


def load(path: str | Path, changes: list[str] | None = None, folder: Path | None = None) -> Recipe:
    """Reads a recipe file, with `KEY=VALUE` changes laid over it; relative paths are made absolute.

    Args:
        path: the TOML file.
        folder: where its paths start; left out, in its own folder.
        changes: as given to `--set`, for example `train.budget="5M tokens"`; paths start at the current folder.

    Raises:
        RecipeError: the file is missing or not TOML, or a key or value is refused.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise RecipeError(
            "recipe.missing", "There is no such recipe or run.", where=str(path), mend="Check the path."
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(
            "recipe.unreadable",
            f"The recipe cannot be read ({error}).",
            where=str(path),
            mend="Save it as UTF-8 text.",
        ) from None
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise RecipeError(
            "recipe.not-toml", f"The recipe is not TOML: {error}.", where=str(path), mend="Mend that line."
        ) from None
    table.setdefault("name", _name_from(path))
    _anchor_paths(table, folder or path.parent)
    return from_table(table, changes, where=str(path))


def from_table(table: dict[str, Any], changes: list[str] | None = None, *, where: str = "recipe") -> Recipe:
    """Checks a recipe given as nested tables, with `--set` changes laid over it."""
    over: dict[str, Any] = {}
    for change in changes or []:
        key, value = _parse_change(change)
        _put(over, key, value)
    _anchor_paths(over, Path.cwd())
    merged = _merge(table, over)
    _anchor_paths(merged, Path.cwd())
    return check(merged, where=where)


def check(table: dict[str, Any], *, where: str) -> Recipe:
    """Validates nested tables; the first thing wrong becomes one RecipeError that says how to mend it."""
    for key, feature in UNAVAILABLE.items():
        if _get(table, key) is not None:
            raise RecipeError(
                "recipe.unavailable",
                f"`{key}` asks for {feature}, which this version does not have.",
                where=where,
                mend="Take the key out; nothing of it would be obeyed.",
            )
    start = _get(table, "model.from") or _get(table, "train.distill.from")
    if (
        isinstance(start, str)
        and "tokenizer" not in table
        and not start.endswith(".keras")
        and _get(table, "model.family") not in IMAGE_FAMILIES
    ):
        table = table | {"tokenizer": {"from": start}}
    task, named = table.get("task"), table.get("data")
    if isinstance(task, str) and task in TASK_FIELDS and isinstance(named, dict):
        left_out = {key: column for key, column in TASK_FIELDS[task].items() if column is not None}
        table = table | {"data": left_out | named}
    if _get(table, "model.family") in IMAGE_FAMILIES and isinstance(table.get("data"), dict):
        table = table | {"data": {"image": "image"} | table["data"]}
    if isinstance(model := table.get("model", {}), dict):
        table = _prompted_defaults(table, model)
        table = table | {"model": _family_defaults(table, table["model"])}
    try:
        return Recipe.model_validate(table)
    except ValidationError as error:
        raise _refusal(error, where) from None


def _prompted_defaults(table: dict[str, Any], model: dict[str, Any]) -> dict[str, Any]:
    """The recipe with what tasks with prompts get where it says nothing of tokens and network: what learns most in minutes. A private
    run learns no vocabulary, and has bytes as ever."""
    shape = {"family", "from", "size", *(key for keys in FAMILY_KEYS.values() for key in keys)}
    task, train = table.get("task"), table.get("train", {})
    if task not in PROMPTED_TASKS or model.keys() & shape or "tokenizer" in table or table.get("privacy"):
        return table | {"model": model}
    context = PROMPTED_CONTEXT.get(str(task), LONGEST_PROMPTED)
    filled: dict[str, Any] = {
        "tokenizer": PROMPTED_TOKENS,
        "model": {"size": "tiny", "context": context} | model,
    }
    if isinstance(train, dict):
        filled["train"] = {"budget": PROMPTED_BUDGET} | train
    return table | filled


def _family_defaults(table: dict[str, Any], model: dict[str, Any]) -> dict[str, Any]:
    """The [model] table with what texts with labels get where it says nothing."""
    own = {key for families, keys in FAMILY_KEYS.items() for key in keys if "ngrams" not in families}
    if table.get("task") in LABELLED_TASKS and not model.keys() & {"family", "from", *own}:
        model = model | {"family": "ngrams"}
    if model.get("family") != "ngrams":
        return model
    if "from" in model:
        return {"context": NGRAM_CONTEXT} | model
    kind = "bpe" if _get(table, "tokenizer.from") else _get(table, "tokenizer.kind") or "byte"
    return {"context": NGRAM_CONTEXT, "longest": LONGEST.get(str(kind), 1)} | model


# What Shuyuan fills in before step 1: a recipe that leaves them open agrees with whatever was filled in.
RESOLVED_KEYS = (
    "data.id",
    "train.steps",
    "train.batch_size",
    "train.micro_batch",
    "train.precision",
    "train.optimizer",
    "train.learning_rate",
    "train.weight_decay",
)
PINNED_KEYS = (
    "model.from",
    "tokenizer.from",
    "train.distill.from",
)  # get the commit of a repository on the hub


def usual_columns(recipe: Recipe) -> dict[str, str | None]:
    """The column of each field that the task reads, as it is where a recipe leaves it out: another may be found in its place."""
    usual: dict[str, str | None] = (
        {} if recipe.task in WITHOUT_TEXT else {"text": Data.model_fields["text"].default}
    )
    return usual | {key: column for key, column in TASK_FIELDS[recipe.task].items() if key != "languages"}


def differences(old: Recipe, new: Recipe) -> list[str]:
    """What `new` asks otherwise than `old`, one line a key."""
    before = _flat(old.model_dump(by_alias=True, exclude={"resolved"}))
    after = _flat(new.model_dump(by_alias=True, exclude={"resolved"}))
    usual = {f"data.{key}": column for key, column in usual_columns(new).items()}
    lines = []
    for key in sorted(before.keys() | after.keys()):
        was, now = before.get(key), after.get(key)
        left_open = (key in RESOLVED_KEYS and now in (None, "auto")) or (
            key in PINNED_KEYS and str(was).startswith(f"{now}@")
        )
        left_open = left_open or (key in usual and now == usual[key])
        if now != was and not left_open:
            lines.append(f"{key}: {_said(was)} there, {_said(now)} asked")
    return lines


def _said(value: Any) -> str:
    return "nothing" if value is None else repr(value)


def fields(section: type[BaseModel] = Recipe, prefix: str = "") -> list[tuple[str, str, str, str]]:
    """(key, type, default, description) of every key, in order: the source of docs and help."""
    rows = []
    for name, field in section.model_fields.items():
        key = prefix + (field.alias or name)
        kinds = [kind for kind in (field.annotation, *get_args(field.annotation)) if isinstance(kind, type)]
        inner = next((kind for kind in kinds if issubclass(kind, Section)), None)
        if inner is not None:
            rows.append((key, "table", "", field.description or ""))
            rows += fields(inner, key + ".")
        else:
            default = "required" if field.is_required() else _toml_value(field.default)
            rows.append((key, _type_name(field.annotation), default, field.description or ""))
    return rows


# ---- helpers -------------------------------------------------------------------------------------------------------


def _name_from(path: Path) -> str:
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", path.stem).strip("-._")[:64]
    return name or "run"


def _anchor_paths(table: dict[str, Any], folder: Path) -> None:
    """Makes the relative paths of a recipe absolute, so that the resolved recipe works from anywhere."""

    def absolute(path: str) -> str:
        if path in BUILT_IN_SOURCES or path.startswith("hf:"):
            return path
        return str((folder / Path(path).expanduser()).absolute())

    for key in (
        "data.source",
        "data.validation",
        "data.test",
        "tokenizer.from",
        "model.from",
        "train.distill.from",
        "compress.calibrate",
    ):
        value = _get(table, key)
        if isinstance(value, str) and value:
            _put(table, key, absolute(value))
        elif isinstance(value, list):
            _put(table, key, [absolute(item) if isinstance(item, str) and item else item for item in value])
    vault_key = _get(table, "vault.key")
    if isinstance(vault_key, str) and vault_key.startswith("file:"):
        _put(table, "vault.key", "file:" + absolute(vault_key.removeprefix("file:")))


def _parse_change(change: str) -> tuple[str, Any]:
    key, sign, text = change.partition("=")
    key = key.strip()
    if not sign or not key:
        raise RecipeError(
            "recipe.bad-change",
            f"`--set {change}` has no KEY=VALUE.",
            mend='Write for example: --set train.budget="300 steps"',
        )
    try:
        return key, tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return key, text.strip()  # the shell has eaten the quotes: train.budget=2 min


def _get(table: dict[str, Any], key: str) -> Any:
    here: Any = table
    for part in key.split("."):
        if not isinstance(here, dict) or part not in here:
            return None
        here = here[part]
    return here


def _put(table: dict[str, Any], key: str, value: Any) -> None:
    *path, last = key.split(".")
    for part in path:
        inner = table.setdefault(part, {})
        if not isinstance(inner, dict):
            raise RecipeError(
                "recipe.bad-change", f"`{part}` is not a table.", where=key, mend="Check the key."
            )
        table = inner
    table[last] = value


def _merge(under: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    merged = dict(under)
    for key, value in over.items():
        below = merged.get(key)
        merged[key] = _merge(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return merged


def _flat(table: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in table.items():
        flat.update(_flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value})
    return flat


def _refusal(error: ValidationError, where: str) -> RecipeError:
    """The first of pydantic's complaints in our words."""
    # A misspelt key is also a missing one: the misspelling is what the user wants to hear of.
    first = min(error.errors(), key=lambda each: each["type"] != "extra_forbidden")
    path = [str(part) for part in first["loc"] if not _is_union_tag(str(part))]
    key = ".".join(path)
    if first["type"] == "extra_forbidden":
        return _unknown_key(path, where)
    if first["type"] == "missing":
        return RecipeError(
            "recipe.missing-key", f"`{key}` is needed.", where=where, mend=f"Add it: {_describe(path)}"
        )
    reason = str(first["msg"]).removeprefix("Value error, ")
    if first["type"] == "literal_error":
        return _wrong_word(key, path, first, where)
    if first["type"] == "value_error":
        inner, sign, rest = reason.partition(": ")
        if sign and " " not in inner:  # raised by a whole table: the validator names the key in it
            key, reason = f"{key}.{inner}" if key else inner, rest
        return RecipeError(
            "recipe.bad-value", f"`{key}` {reason}.", where=where, mend=f"Change `{key}`. {_describe(path)}"
        )
    reason = reason[0].lower() + reason[1:]
    given = repr(first["input"])[:80]
    return RecipeError(
        "recipe.wrong-type",
        f"`{key}` = {given} is refused: {reason}.",
        where=where,
        mend=_describe(path) or "Change it.",
    )


def _is_union_tag(part: str) -> bool:
    return part in ("str", "int", "float", "list[str]", "none") or part.startswith(
        ("literal[", "list[", "constrained")
    )


def _unknown_key(path: list[str], where: str) -> RecipeError:
    *table, last = path
    section = _section(table)
    allowed = [field.alias or name for name, field in section.model_fields.items()] if section else []
    near = difflib.get_close_matches(last, allowed, n=1)
    everywhere = [key for key, *_ in fields() if key.split(".")[-1] == last]
    if near:
        mend = f"Did you mean `{'.'.join([*table, near[0]])}`?"
    elif everywhere:
        mend = f"Did you mean `{everywhere[0]}`?"
    else:
        mend = f"Allowed here: {', '.join(allowed)}."
    return RecipeError(
        "recipe.unknown-key", f"`{'.'.join(path)}` is not a key of a recipe.", where=where, mend=mend
    )


def _wrong_word(key: str, path: list[str], first: Any, where: str) -> RecipeError:
    allowed = re.findall(r"'([^']*)'", str(first["ctx"]["expected"]))
    given = first["input"]
    near = difflib.get_close_matches(given, allowed, n=1) if isinstance(given, str) else []
    mend = f'Did you mean "{near[0]}"? ' if near else ""
    return RecipeError(
        "recipe.bad-value",
        f"`{key}` = {given!r} is not one of: {', '.join(allowed)}.",
        where=where,
        mend=mend + _describe(path),
    )


def _section(path: list[str]) -> type[BaseModel] | None:
    section: type[BaseModel] = Recipe
    for part in path:
        field = section.model_fields.get(part)
        kinds = (field.annotation, *get_args(field.annotation)) if field else ()
        inner = next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, Section)), None)
        if inner is None:
            return None
        section = inner
    return section


def _describe(path: list[str]) -> str:
    described = {key: text for key, _, _, text in fields()}
    parts = [part for part in path if not part.isdigit()]
    return described.get(".".join(parts), "")


def _type_name(annotation: Any) -> str:
    if annotation is Any:
        return "anything"
    if annotation is type(None):
        return "left out"
    options = get_args(annotation)
    if getattr(annotation, "__origin__", None) is Literal:
        return " | ".join(f'"{option}"' for option in options)
    if isinstance(annotation, type) and not options:
        return {"str": "text", "float": "number", "int": "whole number", "bool": "true | false"}.get(
            annotation.__name__, annotation.__name__
        )
    if getattr(annotation, "__origin__", None) is list:
        return f"list of {_type_name(options[0])}"
    if getattr(annotation, "__origin__", None) is dict:
        return f"table of {_type_name(options[1])}"
    return " | ".join(_type_name(option) for option in options if option is not type(None))


def _toml_value(value: Any) -> str:
    if value is None:
        return "left out"
    return tomli_w.dumps({"x": value}).partition("= ")[2].strip() if not isinstance(value, dict) else "{}"
