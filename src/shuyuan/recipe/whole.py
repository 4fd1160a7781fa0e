"""A whole recipe: its tables, the rules between them that no table could hold alone, and its check."""

from __future__ import annotations

from typing import Any, Literal

import tomli_w
from pydantic import Field, ValidationError, model_validator

from ..errors import RecipeError
from .budget import Budget
from .compress import Compress
from .data import Data, Tokenizer
from .defaults import filled
from .keys import rows_of
from .model import Model
from .names import (
    DATA_SET_NAME,
    IMAGE_FAMILIES,
    LABELLED_TASKS,
    MULTI_LABEL_KEYS,
    ONE_LABEL_FAMILIES,
    OWNED_SOURCES,
    PROMPTED_TASKS,
    TASK_FIELDS,
    WITHOUT_TEXT,
)
from .privacy import Audit, Privacy, Vault
from .refusal import refusal
from .report import Report
from .section import Section
from .tables import put
from .train import Train

# What DESIGN promises and this version does not have yet. A recipe that asks for it is refused, never half obeyed.
UNAVAILABLE = {
    "evaluate": "further evaluation tasks",
}


class Recipe(Section):
    """Everything a run needs: a run is a pure function of recipe, data and seed."""

    name: str = Field(
        "run",
        pattern=f"^{DATA_SET_NAME}$",
        description="The run's name, of at most 64 letters A to Z, digits, dots, dashes and underscores; its folder is runs/NAME.",
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
    def _of_blocks(self) -> Recipe:
        """Where there are blocks, and what they cannot be compiled with."""
        for key in ("compile", "activation_checkpointing"):
            if getattr(self.train, key) and self.model.family != "transformer":
                raise ValueError(
                    f"train.{key}: is about the blocks of transformers, and the family is {self.model.family}"
                )
        if not self.train.compile:
            return self
        for key, asked in {
            "train.activation_checkpointing, with privacy": self.privacy
            and self.train.activation_checkpointing,
            "train.sharded": self.train.sharded,
            "train.lora": self.train.lora,
        }.items():
            if asked:
                raise ValueError(f"train.compile: is not offered beside {key}; leave one of them out")
        return self

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
        """A copy with dotted keys changed: `recipe.replace(**{"train.steps": 300})`.

        Args:
            changes: dotted key to value, as TOML has it.

        Raises:
            RecipeError: as of `check`.
        """
        table = self.model_dump(by_alias=True, exclude_none=True)
        for key, value in changes.items():
            put(table, key, value)
        return check(table, where="recipe")


def check(table: dict[str, Any], *, where: str) -> Recipe:
    """Validates nested tables; the first thing wrong becomes one RecipeError that says how to mend it.

    Args:
        table: as TOML gives it.
        where: the file, for errors.

    Raises:
        RecipeError: a key is unknown, missing or contradicts another, a value is of the wrong type, or this version lacks what is asked.
    """
    for key, feature in UNAVAILABLE.items():
        if table.get(key, {}) != {}:  # an empty table asks for the task's own scores
            raise RecipeError(
                "recipe.unavailable",
                f"`{key}` asks for {feature}, which this version does not have.",
                where=where,
                mend="Take the key out; nothing of it would be obeyed.",
            )
    asked = {key: value for key, value in table.items() if key not in UNAVAILABLE}
    try:
        return Recipe.model_validate(filled(asked))
    except ValidationError as error:
        raise refusal(error, Recipe, where) from None


def fields() -> list[tuple[str, str, str, str]]:
    """(key, type, default, description) of every key of a recipe, in order: the source of docs and help."""
    return rows_of(Recipe)
