"""The table [train], and those inside it: how long and how the model learns."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from .budget import Budget
from .names import MOST_SEQUENCES, MOST_STEPS, Auto
from .section import Section


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
    base: Literal["int8", "int4"] | None = Field(
        None,
        description="In how many bits the matrices inside the blocks of the model to start from are kept, targets or not (QLoRA); "
        "embeddings, norms and head stay floats. The finished model has the rounded matrices, with what was learned beside them. Left out: "
        "floats of 32 bits.",
    )

    @property
    def bits(self) -> int | None:
        """Of a code of the base; None: it stays floats."""
        return None if self.base is None else int(self.base.removeprefix("int"))


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
        description="auto: bf16 where the hardware is fast at it, else fp16 with loss scaling on a GPU, else fp32.",
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
        "auto: from optimizer and width, and of LoRA from width and rank.",
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
        description="Under torchrun: each rank holds a share of weights, gradients and optimizer state (FSDP2) instead of all of them. "
        "The result is the same but for rounding.",
    )
    activation_checkpointing: bool = Field(
        False,
        description="Of each block of a transformer keep its input alone, and compute the block again in the backward pass: a step takes "
        "about a third longer, and activations a fraction of the memory. The result is the same, bit for bit.",
    )
    compile: bool = Field(
        False,
        description="Compile the blocks of a transformer with torch.compile: a GPU trains about 1.5 times as fast, a CPU 1.1 times, after half "
        "a minute of compiling; a GPU's private steps and their noise more so. Needs a C++ compiler, or Triton on a GPU. The result is the same but for rounding.",
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
