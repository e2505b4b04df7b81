"""Options that several verbs share."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from device_runtime.forecast.bundle import Bundle
    from device_runtime.forecast.forecaster import Forecast, Forecaster
    from device_runtime.forecast.session import SessionSettings

F = TypeVar("F", bound=Callable[..., Any])


class FiniteRange(click.FloatRange):
    """A number between two bounds: of ``nan`` no bound of click's says anything, and ``inf`` is above the lower one."""

    name = "number"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the number. Raises `click.BadParameter`, which names the option."""
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value} is not a finite number.", param, ctx)
        return number


class ThreadCount(click.IntRange):
    """A number of threads, or ``auto``, which becomes `device_runtime.forecast.session.AUTO`."""

    name = "threads"

    def __init__(self) -> None:
        super().__init__(1, 64)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the number. Raises `click.BadParameter`, which names the option."""
        from device_runtime.forecast.session import AUTO

        try:
            return AUTO if value == "auto" else super().convert(value, param, ctx)
        except click.BadParameter:
            self.fail(f"{value!r}: want a number from {self.min} to {self.max}, or auto.", param, ctx)


bundle_argument = click.argument("bundle", type=click.Path(path_type=Path))
adapter_option = click.option(
    "--adapter",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Adapter blob; without it the frozen base forecasts.",
)
accept_option = click.option(
    "--accept-difference",
    "accept",
    multiple=True,
    metavar="NAME",
    help="Use an adapter that is for another signal, unit, interval, context_length or prediction_length, by that "
    "name; every forecast then says so.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def session_options(function: F) -> F:
    """Add the options of `device_runtime.forecast.session.SessionSettings`."""
    return thread_options(place_options(function))


def place_options(function: F) -> F:
    """Add ``--provider`` and what goes with it."""
    provider = click.option(
        "--provider",
        metavar="NAME[:DEVICE]",
        help="Run on this execution provider, such as openvino or openvino:gpu; `edge-tsfm-device providers` lists "
        "them.  [default: cpu]",
    )
    return provider_options(provider(function))


def provider_options(function: F) -> F:
    """Add what goes with ``--provider``."""
    for option in (
        click.option(
            "--cpu-fallback", is_flag=True, help="Let the processor run nodes that the provider does not take."
        ),
        click.option(
            "--provider-option",
            "options",
            multiple=True,
            metavar="KEY=VALUE",
            callback=lambda ctx, param, pairs: _pairs(pairs),
            help="An option of the provider's own; repeatable.",
        ),
        click.option(
            "--provider-library",
            "library",
            type=click.Path(path_type=Path, dir_okay=False),
            help="The provider's plugin library.  [default: that of its Python package]",
        ),
    ):
        function = option(function)
    return function


def thread_options(function: F) -> F:
    """Add the options of the processor's own threads."""
    for option in (
        click.option(
            "--spinning/--no-spinning",
            default=False,
            help="Let threads spin while they wait: faster, but occupies a core.",
        ),
        click.option(
            "--threads",
            type=ThreadCount(),
            default=2,
            help="Threads of one forecast; auto: the fewest that are as fast as more, measured here at the start.",
        ),
    ):
        function = option(function)
    return function


def require_use_said(forecaster: Forecaster) -> None:
    """Refuse a bound adapter if the signal or the interval of the data is not given; name the option.

    Raises `SignalMismatchError`.
    """
    if forecaster.binding is None:
        return
    from device_runtime.errors import SignalMismatchError
    from device_runtime.format.binding import require_said

    try:
        require_said(forecaster.binding, forecaster.use)
    except SignalMismatchError as error:
        unsaid = "--interval says how long a step is, such as --interval 1h"
        if forecaster.use.signal is None:
            unsaid = f"--target NAME says what the column of values is, such as --target {forecaster.binding.name}"
        raise SignalMismatchError(str(error.args[0]), hint=unsaid) from error


def said_use(forecast: Forecast) -> dict[str, Any]:
    """Return what a forecast's record says of what the adapter is for, beside its base and adapter."""
    return {
        "signal": forecast.binding.name if forecast.binding else None,
        **({"unbound": True} if forecast.unbound else {}),
        **({"accepted_differences": list(forecast.accepted_differences)} if forecast.accepted_differences else {}),
    }


def warn_of_use(forecaster: Forecaster) -> None:
    """Print on standard error that an adapter does not say what it is for."""
    if forecaster.adapter is not None and forecaster.binding is None:
        click.echo("the adapter is unbound: it does not say which signal or interval it is for", err=True)


def warn_of_accepted(forecast: Forecast) -> None:
    """Print on standard error in what an adapter was used otherwise than it is for, because a person accepted that."""
    if forecast.accepted_differences:
        names = ", ".join(forecast.accepted_differences)
        click.echo(f"the adapter is for {forecast.binding}; used for another {names}, accepted by hand", err=True)


def settings(provider: str | None, **given: Any) -> Any:
    """Make session settings of the options' values."""
    from device_runtime.forecast.session import SessionSettings

    if provider is None and (idle := [name for name in ("library", "options", "cpu_fallback") if given.get(name)]):
        option = {"library": "--provider-library", "options": "--provider-option", "cpu_fallback": "--cpu-fallback"}
        raise click.UsageError(f"{option[idle[0]]} is for a --provider")
    chosen = given if provider is None else {**given, "provider": provider}
    return SessionSettings(**chosen)


def _pairs(pairs: tuple[str, ...]) -> dict[str, str]:
    """Read KEY=VALUE."""
    for pair in pairs:
        if not pair.partition("=")[0] or "=" not in pair:
            raise click.BadParameter(f"want KEY=VALUE, got {pair!r}", param_hint="--provider-option")
    return {key: value for key, _, value in (pair.partition("=") for pair in pairs)}


def settled_threads(bundle: Bundle, session: SessionSettings) -> SessionSettings:
    """Measure the number of threads where ``auto`` was asked for, and print on standard error what was found."""
    from device_runtime.forecast.session import AUTO
    from device_runtime.forecast.threads import best, measure

    if session.threads != AUTO:
        return session
    times = measure(bundle, session)
    chosen = best(times)
    found = ", ".join(f"{count}: {ms:.2f} ms" for count, ms in times.items())
    click.echo(f"threads {chosen} (measured with {found})", err=True)
    return replace(session, threads=chosen)


def context_steps(forecaster: Any, asked: int | None) -> int:
    """Return how many of the latest steps to use: those ``asked`` for, else as many as adapter and base read.

    Raises `InputError` for more than it reads: they would change nothing.
    """
    most = int(forecaster.bundle.manifest.context_length)
    if asked is not None and asked > most:
        from device_runtime.errors import InputError

        raise InputError(
            f"--context-length {asked}: base {forecaster.bundle.manifest.name} reads at most {most} steps",
            hint=f"--context-length {most} or less; a longer one has no effect",
        )
    return asked or (most if forecaster.binding is None else min(most, int(forecaster.binding.context_length)))
