"""Progress of long commands on standard error: a bar in a terminal, otherwise a line from time to time."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self

import click

from edge_tsfm.progress import Work, say_seconds

EVERY = 30.0  # seconds between two lines where there is no terminal
SCALE = 1_000  # places of the bar

quiet_option = click.option("--quiet", "-q", is_flag=True, help="Show no progress and no remarks on standard error.")
# `edge_tsfm.runs.log_to.LOGGERS`, which would import torch to show a help text.
log_to_option = click.option(
    "--log-to",
    multiple=True,
    type=click.Choice(["tensorboard", "mlflow", "wandb"]),
    help="Log figures there as well; repeatable. Each is an extra: edge-tsfm[tensorboard].",
)


class Progress:
    """Shows ``work`` under a ``label``; nothing at all when ``quiet``."""

    def __init__(
        self, label: str, work: Work, *, quiet: bool = False, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.work, self._label, self._quiet, self._clock = work, label, quiet, clock
        self._terminal = sys.stderr.isatty()
        self._said = clock()
        self._bar: Any = None
        self._place = 0

    def __enter__(self) -> Self:
        """Draw the bar."""
        if self._terminal and not self._quiet:
            self._bar = click.progressbar(
                length=SCALE, label=self._label, file=sys.stderr, show_eta=False, item_show_func=lambda text: text
            )
            self._bar.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave the bar's line."""
        if self._bar is not None:
            self._bar.__exit__(kind, error, trace)

    def update(self, text: str, *, mark: bool = False) -> None:
        """Show ``text`` with the time left; without a terminal every `EVERY` seconds, and at every ``mark``."""
        left = self.work.left
        said = text if left is None else f"{text}, about {say_seconds(left)} left"
        if self._bar is not None:
            place = max(self._place, min(SCALE, int(SCALE * self.work.share)))
            self._bar.update(place - self._place, said)
            self._place = place
        elif not self._quiet and not self._terminal and (mark or self._clock() - self._said >= EVERY):
            self._said = self._clock()
            click.echo(f"{self._label}: {said}", err=True)

    def say(self, text: str) -> None:
        """Say something once, on a line of its own."""
        if not self._quiet:
            click.echo(text, err=True)


@contextmanager
def export_bar(label: str, *, hidden: bool) -> Iterator[Callable[[str, int, int], None]]:
    """Show an export's stages as a bar, only in a terminal."""
    with click.progressbar(length=100, label=label, hidden=hidden or not sys.stderr.isatty(), file=sys.stderr) as bar:

        def progress(stage: str, done: int, total: int) -> None:
            share = 20 * done // total if stage in ("trace", "store") else 20 + 80 * done // total
            bar.update(share - bar.pos)

        yield progress
