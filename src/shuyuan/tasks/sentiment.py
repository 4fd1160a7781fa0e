"""Sentiment: tell what a text feels. The records of classification under the name that people look for."""

from __future__ import annotations

from .base import TASKS
from .classification import Classification


class Sentiment(Classification):
    """Text in, a label such as "positive" out."""

    name = "sentiment"


TASKS[Sentiment.name] = Sentiment()
