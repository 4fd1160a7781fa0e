"""What a recipe has names for: tasks with their columns, families with their keys and sizes, sources, and limits."""

from __future__ import annotations

from typing import Literal

Auto = Literal["auto"]

# ---- records -------------------------------------------------------------------------------------------------------

BUILT_IN_SOURCES = ("stdlib", "packages", "digits")
OWNED_SOURCES = ("stdlib", "packages")  # built in, and they know their owners
DATA_SET_NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}"
PERSONAL_DATA = ("email", "phone", "national-id", "card", "iban", "ip", "url-credentials")
Maskable = Literal["email", "phone", "national-id", "card", "iban", "ip", "url-credentials"]
LANGUAGE = r"[a-z]{2,3}(-[A-Za-z]{2,8})?"
MULTI_LABEL_KEYS = ("multi_label", "label_separator")
MOST_LABELS = 65_536
MOST_PIXELS = 4096  # on a side of an image, after resizing

# ---- tasks ---------------------------------------------------------------------------------------------------------

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
# What tasks with prompts get in a recipe that leaves it out.
PROMPTED_TOKENS = {"kind": "bpe", "vocab_size": 8192}
PROMPTED_CONTEXT, LONGEST_PROMPTED = {"translation": 96}, 512
PROMPTED_BUDGET = "10 min"

# ---- families ------------------------------------------------------------------------------------------------------

IMAGE_FAMILIES = ("cnn",)
ONE_LABEL_FAMILIES = ("cnn", "rnn")
SIZES = {"tiny": (4, 128), "small": (6, 256), "medium": (8, 512), "large": (12, 768)}  # name: (layers, width)
RNN_SIZES = {"tiny": (1, 128), "small": (1, 384), "medium": (2, 512), "large": (3, 1024)}  # likewise
NGRAM_SIZES = {"tiny": 2**20, "small": 2**22, "medium": 2**24, "large": 2**26}  # numbers in the table
IMAGE_SIZES = ("textbook", "small", "medium")
FAMILY_KEYS = {  # keys of [model] that mean something for some families alone
    ("transformer", "rnn"): ("layers", "width", "dropout"),
    ("transformer",): ("heads", "kv_heads", "hidden", "tied"),
    ("rnn",): ("cell", "bidirectional", "predict"),
    ("ngrams",): ("longest",),
}
# What a model to start from says itself, by family.
OWN_SHAPE = {
    "rnn": ("layers", "width", "cell", "bidirectional", "dropout", "predict"),
    "ngrams": ("longest",),
}
# Tokens of the longest n-gram by the kind of tokens: about a word, or two Chinese characters.
LONGEST = {"byte": 6, "char": 4, "bpe": 2}
NGRAM_CONTEXT, MOST_LONGEST = 1024, 16

# ---- training and compression --------------------------------------------------------------------------------------

MOST_STEPS, MOST_SEQUENCES = 10**12, 2**24  # beyond: a digit too many, refused before anything loops over it
Quantized = Literal["int8", "int4"]
Rounding = Literal["auto", "gptq", "nearest"]
Pruning = Literal["auto", "sparsegpt", "wanda", "magnitude", "gradual"]
