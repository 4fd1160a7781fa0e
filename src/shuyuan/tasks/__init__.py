"""What models are for: one file a task, pure and without torch; a task knows no model."""

from .base import TASKS, Example, Piece, Task, task_named
from .generation import Generation

__all__ = ["TASKS", "Example", "Generation", "Piece", "Task", "task_named"]
