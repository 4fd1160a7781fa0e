"""What a run is: one TOML file, checked before any work, with every default in one place.

Unknown keys, wrong types and contradictions are refused with the key, what is allowed and the nearest right spelling. A file holds a table,
or some; `whole.py` holds the rules between them, `names.py` what they have names for. `docs/recipe.md` is generated from the descriptions.

Other rooms use `load` (from a file), `from_table`, `check`, `differences`, `idle` (settings without effect), `fields` (every key with its
description), the tables as types, and names and limits.
"""

from .budget import Budget
from .compress import Compress
from .data import Data, Tokenizer
from .differences import differences, usual_columns
from .idle import idle
from .model import Model
from .names import (
    BUILT_IN_SOURCES,
    DATA_SET_NAME,
    LABELLED_TASKS,
    MIXABLE_TASKS,
    MOST_LABELS,
    MOST_LONGEST,
    MOST_STEPS,
    MULTI_LABEL_KEYS,
    NGRAM_SIZES,
    OWNED_SOURCES,
    PERSONAL_DATA,
    PROMPTED_TASKS,
    RNN_SIZES,
    SIZES,
    TASK_FIELDS,
    Pruning,
    Rounding,
)
from .privacy import Privacy
from .reading import from_table, load
from .train import Distill, Lora, Train
from .whole import Recipe, check, fields

__all__ = [
    "BUILT_IN_SOURCES",
    "DATA_SET_NAME",
    "LABELLED_TASKS",
    "MIXABLE_TASKS",
    "MOST_LABELS",
    "MOST_LONGEST",
    "MOST_STEPS",
    "MULTI_LABEL_KEYS",
    "NGRAM_SIZES",
    "OWNED_SOURCES",
    "PERSONAL_DATA",
    "PROMPTED_TASKS",
    "RNN_SIZES",
    "SIZES",
    "TASK_FIELDS",
    "Budget",
    "Compress",
    "Data",
    "Distill",
    "Lora",
    "Model",
    "Privacy",
    "Pruning",
    "Recipe",
    "Rounding",
    "Tokenizer",
    "Train",
    "check",
    "differences",
    "fields",
    "from_table",
    "idle",
    "load",
    "usual_columns",
]
