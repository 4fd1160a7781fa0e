"""Documents and known answers that can be asked: indexes of passages, searched by words, with citations.

Other rooms use `build_index` with `Columns` and `Wish`, `Index` (open for questions; it finds `Found` passages), `answer` with `Answer`, `Reader` and
`Span` for a model that reads passages, `is_index` and `verify_index`.
"""

from .answers import Answer, answer
from .build import build_index
from .documents import Columns
from .folder import is_index
from .index import Found, Index
from .matching import Wish
from .spans import Reader, Span, best_sentence, window_span
from .verify import verify_index

__all__ = [
    "Answer",
    "Columns",
    "Found",
    "Index",
    "Reader",
    "Span",
    "Wish",
    "answer",
    "best_sentence",
    "build_index",
    "is_index",
    "verify_index",
    "window_span",
]
