"""The run's page, its summary and its model card: what is known of a run, told once and honestly."""

from .card import model_card
from .facts import summary
from .law import law_page
from .owner import owner_in_runs
from .page import render, write_report

__all__ = ["law_page", "model_card", "owner_in_runs", "render", "summary", "write_report"]
