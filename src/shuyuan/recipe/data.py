"""The tables [data] and [tokenizer]: records, and how they become tokens."""

from __future__ import annotations

import re
from typing import Literal

from pydantic import Field, field_validator, model_validator

from .names import DATA_SET_NAME, LANGUAGE, MOST_LABELS, MOST_PIXELS, PERSONAL_DATA, Maskable
from .section import Section


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

    @model_validator(mode="after")
    def _some_to_train_on(self) -> Data:
        held_out = [share for share in (self.validation, self.test) if isinstance(share, float)]
        if sum(held_out) >= 1:
            raise ValueError(
                f"test: {self.test} and validation = {self.validation} leave nothing to train on"
            )
        return self


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
