"""What models are for: one file a task, pure and without torch; a task knows no model.

Other rooms may use `task_named` and the classes `Task`, `Example`, `Piece` and `Setting`; `Template`, how chats are written; and of
`packing` what turns a record with prompts into one text and back.
"""

from .base import TASKS, Example, Piece, Setting, Task, task_named
from .chat import Chat
from .classification import Classification, label_field
from .generation import Generation, under
from .mixed import Mixed
from .prompted import Prompted
from .question_answering import Answer, QuestionAnswering
from .sentiment import Sentiment
from .summarization import Summarization
from .template import Template
from .translation import Translation

__all__ = [
    "TASKS",
    "Answer",
    "Chat",
    "Classification",
    "Example",
    "Generation",
    "Mixed",
    "Piece",
    "Prompted",
    "QuestionAnswering",
    "Sentiment",
    "Setting",
    "Summarization",
    "Task",
    "Template",
    "Translation",
    "label_field",
    "task_named",
    "under",
]
