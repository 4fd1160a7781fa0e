"""Changes to the solutions of coding questions, one file a question: those that stay right, and mistakes that are named.

`RIGHT` names right ways; `MISTAKES` has a hint for each, and behind a colon what tells it from another with that hint. What
takes long stands in `SLOW`.
"""

from __future__ import annotations

Changes = list[tuple[str, str]]
