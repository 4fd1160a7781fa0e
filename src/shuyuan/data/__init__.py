"""From the recipe's source to shards of tokens: read, clean, mask, remove duplicates, split by owner, encode.

Other rooms use `prepare`, `found_columns`, `load_task` (the task of a run) and `template_file`, `laid_out` and `PromptRows` for prompts, `question_and_text`,
`Asked`, `windows`, `filled_windows`, `Pair` and `SpanRows` for answers that are places in a text, `load_manifest`, `load_tokenizer`, `open_split`, `Windows`, `Sliding`, `Rows`, `Images`, `row_of`, `filled`, `by_width`, `UnitRows`, `read_image`,
`local_folder` and `pinned` for what a recipe's `from` names, `has_owners` and `owner_records` to find one
owner, `open_source` with `Wanted`, `Row`, `Source`, `Skipped` and `is_table` to read texts that are not to be trained on, and the types `Manifest`, `Split`, `ShardFacts`, `ImageFacts`, `AnyBatch` and `Tokenizer`.
"""

from .batches import NOTHING, AnyBatch, Sliding, Windows
from .canaries import Canaries, load_canaries
from .columns import found_columns
from .images import Images
from .manifest import (
    MANIFEST_FILE,
    TOKENIZER_FILE,
    Manifest,
    Pair,
    ShardFacts,
    Split,
    TokenizerFacts,
    load_manifest,
)
from .masking import Masker
from .owners import has_owners, owner_records
from .pairs import Asked, filled_windows, question_and_text, windows
from .pixels import read_image
from .prepare import load_tokenizer, prepare
from .prompt_rows import PromptRows
from .prompts import Laid, laid_out, last_of
from .reading import open_split
from .rows import Rows, filled, row_of
from .snapshot import local_folder, pinned
from .sources import ImageFacts, Row, Skipped, Source, Wanted, is_table, open_source
from .span_rows import SpanRows
from .templates import load_task, template_file
from .tokenizer import Tokenizer, byte_tokenizer, char_tokenizer, learn_bpe
from .units import UnitRows
from .widths import FILL, by_width

__all__ = [
    "FILL",
    "MANIFEST_FILE",
    "NOTHING",
    "TOKENIZER_FILE",
    "AnyBatch",
    "Asked",
    "Canaries",
    "ImageFacts",
    "Images",
    "Laid",
    "Manifest",
    "Masker",
    "Pair",
    "PromptRows",
    "Row",
    "Rows",
    "ShardFacts",
    "Skipped",
    "Sliding",
    "Source",
    "SpanRows",
    "Split",
    "Tokenizer",
    "TokenizerFacts",
    "UnitRows",
    "Wanted",
    "Windows",
    "by_width",
    "byte_tokenizer",
    "char_tokenizer",
    "filled",
    "filled_windows",
    "found_columns",
    "has_owners",
    "is_table",
    "laid_out",
    "last_of",
    "learn_bpe",
    "load_canaries",
    "load_manifest",
    "load_task",
    "load_tokenizer",
    "local_folder",
    "open_source",
    "open_split",
    "owner_records",
    "pinned",
    "prepare",
    "question_and_text",
    "read_image",
    "row_of",
    "template_file",
    "windows",
]
