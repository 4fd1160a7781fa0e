"""What models are for: one file a task, pure and without torch; a task knows no model."""

from .base import TASKS, Example, Piece, Task, task_named
from .classification import Classification, label_field
from .generation import Generation
from .sentiment import Sentiment

__all__ = [
    "TASKS",
    "Classification",
    "Example",
    "Generation",
    "Piece",
    "Sentiment",
    "Task",
    "label_field",
    "task_named",
]
