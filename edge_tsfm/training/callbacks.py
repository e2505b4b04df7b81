"""What follows a training run while it goes on: a bar in the terminal, a writer of logs, or a class of your own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

Figures = Mapping[str, float]


class Callback(Protocol):
    """Hears of a run. A class that derives from it says only what it wants to hear of.

    What a callback raises ends the training; what is trained so far stays, and goes on with ``resume``.
    """

    def on_begin(self, facts: Mapping[str, Any]) -> None:
        """Hear before the first step what is trained on what: configuration, base, signal, fingerprint of the data."""
        return

    def on_step(self, step: int, figures: Figures) -> None:
        """Hear of a finished step: its ``training_loss`` and ``learning_rate``.

        At step 0, which is the frozen base, and wherever the validation patients were asked, also of their
        ``validation_score``. A run that goes on begins with the first step after its checkpoint.
        """
        return

    def on_end(self, record: Mapping[str, Any] | None) -> None:
        """Hear the run's record with the gate's verdict in it; None where training did not come to its end."""
        return


class Several(Callback):
    """Tells several callbacks, in their order."""

    def __init__(self, callbacks: Sequence[Callback]) -> None:
        self._callbacks = tuple(callbacks)

    def on_begin(self, facts: Mapping[str, Any]) -> None:
        """Tell all of the beginning."""
        for one in self._callbacks:
            one.on_begin(facts)

    def on_step(self, step: int, figures: Figures) -> None:
        """Tell all of a step."""
        for one in self._callbacks:
            one.on_step(step, figures)

    def on_end(self, record: Mapping[str, Any] | None) -> None:
        """Tell all of the end."""
        for one in self._callbacks:
            one.on_end(record)
