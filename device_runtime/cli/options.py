"""Options that several verbs share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])

bundle_argument = click.argument("bundle", type=click.Path(path_type=Path))
adapter_option = click.option(
    "--adapter",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Adapter blob; without it the frozen base forecasts.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def session_options(function: F) -> F:
    """Add the options of `device_runtime.session.SessionSettings`."""
    for option in (
        click.option("--provider", "providers", multiple=True, help="ONNX Runtime execution provider, in order."),
        click.option("--spinning/--no-spinning", default=False, help="Let threads wait busily: faster, takes a core."),
        click.option("--threads", type=click.IntRange(1, 64), default=2, help="Threads of one forecast."),
    ):
        function = option(function)
    return function


def settings(threads: int, spinning: bool, providers: tuple[str, ...]) -> Any:
    """Make session settings of the options' values."""
    from device_runtime.session import SessionSettings

    return SessionSettings(threads=threads, spinning=spinning, providers=providers or ("CPUExecutionProvider",))


def context_steps(forecaster: Any, asked: int | None) -> int:
    """Return how many of the latest steps to use: those ``asked`` for, else as many as the base reads.

    Raises `InputError` for more than it reads: they would change nothing.
    """
    most = int(forecaster.bundle.manifest.context_length)
    if asked is not None and asked > most:
        from device_runtime.errors import InputError

        raise InputError(
            f"--context-length {asked}: base {forecaster.bundle.manifest.name} reads at most {most} steps",
            hint=f"--context-length {most} or less; a longer one changes nothing",
        )
    return asked or most
