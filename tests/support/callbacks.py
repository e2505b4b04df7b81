"""Callbacks for tests."""

from collections.abc import Callable, Mapping
from typing import Any

from edge_tsfm.training.callbacks import Callback, Figures


class Hears(Callback):
    """Calls a function at every step but 0, the frozen base."""

    def __init__(self, heard: Callable[[int, Figures], object]) -> None:
        self._heard = heard

    def on_step(self, step: int, figures: Figures) -> None:
        if step:
            self._heard(step, figures)


class Remembers(Callback):
    """Keeps all that it is told."""

    def __init__(self) -> None:
        self.facts: list[Mapping[str, Any]] = []
        self.steps: list[tuple[int, Figures]] = []
        self.records: list[Mapping[str, Any] | None] = []

    def on_begin(self, facts: Mapping[str, Any]) -> None:
        self.facts.append(facts)

    def on_step(self, step: int, figures: Figures) -> None:
        self.steps.append((step, dict(figures)))

    def on_end(self, record: Mapping[str, Any] | None) -> None:
        self.records.append(record)
