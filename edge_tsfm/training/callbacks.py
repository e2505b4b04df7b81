"""Callbacks of a training run: a progress bar, a logger, or a class of your own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

from edge_tsfm.errors import ConfigError

Figures = Mapping[str, float]


class Callback(Protocol):
    """Is called as a training run proceeds. A subclass overrides only the methods that it needs.

    An exception raised in a callback ends the training; ``resume`` continues from the last checkpoint.
    """

    def on_begin(self, facts: Mapping[str, Any]) -> None:
        """Receive, before the first step, the configuration, base, signal and fingerprint of the data."""
        return

    def on_step(self, step: int, figures: Figures) -> None:
        """Receive the ``training_loss`` and ``learning_rate`` of a finished step.

        ``validation_score`` is added at step 0, which is the frozen base, and at every validation. A resumed run begins
        with the first step after its checkpoint.
        """
        return

    def on_end(self, record: Mapping[str, Any] | None) -> None:
        """Receive the run record, which includes the gate's verdict; None if training did not finish."""
        return


HOOKS = ("on_begin", "on_step", "on_end")


def checked(callbacks: object) -> tuple[Callback, ...]:
    """Return callbacks as they were given. Raises `ConfigError` for anything else, such as a class without its ()."""
    given = tuple(callbacks) if isinstance(callbacks, Iterable) else (callbacks,)
    for one in given:
        missing = [name for name in HOOKS if not callable(getattr(one, name, None))]
        if isinstance(one, type) or missing:
            what = f"the class {one.__name__}" if isinstance(one, type) else f"a {type(one).__name__}"
            raise ConfigError(
                f"callbacks: {what} is not a callback",
                hint="a list of objects with on_begin, on_step and on_end: derive a class from edge_tsfm.Callback",
            )
    return given


class Several(Callback):
    """Calls several callbacks in order."""

    def __init__(self, callbacks: Sequence[Callback]) -> None:
        self._callbacks = checked(callbacks)

    def on_begin(self, facts: Mapping[str, Any]) -> None:
        """Call ``on_begin`` of all callbacks."""
        for one in self._callbacks:
            one.on_begin(facts)

    def on_step(self, step: int, figures: Figures) -> None:
        """Call ``on_step`` of all callbacks."""
        for one in self._callbacks:
            one.on_step(step, figures)

    def on_end(self, record: Mapping[str, Any] | None) -> None:
        """Call ``on_end`` of all callbacks."""
        for one in self._callbacks:
            one.on_end(record)
