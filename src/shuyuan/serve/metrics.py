"""What a server can tell of itself to Prometheus. No label is chosen by who asks."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from .shelf import Shelf

_SECONDS = (0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100, 300)


class Metrics:
    """The figures of one server.

    Args:
        shelf: the models, which are looked at when somebody asks.
    """

    def __init__(self, shelf: Shelf) -> None:
        self._registry = CollectorRegistry()
        self._shelf = shelf
        self.responses = Counter(
            "shuyuan_responses", "Responses.", ["route", "status"], registry=self._registry
        )
        self.decisions = Counter(
            "shuyuan_decisions",
            "What became of requests to models.",
            ["model", "decision"],
            registry=self._registry,
        )
        self.tokens = Counter(
            "shuyuan_tokens", "Tokens read and written.", ["model", "kind"], registry=self._registry
        )
        self.seconds = Histogram(
            "shuyuan_request_seconds",
            "Time of a whole request.",
            ["model"],
            buckets=_SECONDS,
            registry=self._registry,
        )
        self.first = Histogram(
            "shuyuan_first_token_seconds",
            "Time to the first token.",
            ["model"],
            buckets=_SECONDS,
            registry=self._registry,
        )
        self._waiting = Gauge(
            "shuyuan_waiting", "Requests that wait for a place.", ["model"], registry=self._registry
        )
        self._active = Gauge(
            "shuyuan_active", "Places at a model that are taken.", ["model"], registry=self._registry
        )
        self._loaded = Gauge(
            "shuyuan_loaded_bytes", "Memory of a loaded model, about.", ["model"], registry=self._registry
        )

    def render(self) -> bytes:
        """All figures, in the text format of Prometheus."""
        for model in self._shelf.models.values():
            self._waiting.labels(model.name).set(model.line.waiting)
            self._active.labels(model.name).set(model.line.places - model.line.free)
            self._loaded.labels(model.name).set(model.bytes if model.worker is not None else 0)
        return generate_latest(self._registry)
