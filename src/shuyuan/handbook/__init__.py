"""The handbook: a bank of questions with measured answers, and a grader for the reader's own. Nothing here loads torch.

Other rooms use `load_bank`, `page`, `contents`, `exercise`, `render` (all pages into a folder, for `make docs`) and `grade`;
the reader's progress is in `reader`, the handbook's own sentences in `words`.
"""

from .bank import QUESTIONS, Question, load_bank, load_question
from .check import Remark, Verdict, grade
from .pages import contents, exercise, page, render

__all__ = [
    "QUESTIONS",
    "Question",
    "Remark",
    "Verdict",
    "contents",
    "exercise",
    "grade",
    "load_bank",
    "load_question",
    "page",
    "render",
]
