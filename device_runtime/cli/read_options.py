"""The options of every command that reads a file of series, and how they are turned into `ReadOptions`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])

# In the order of --help. ``where`` is a tuple, empty when not given; the others are None.
_OPTIONS = (
    click.option("--id-column", help="Column of the patient's id.  [default: recognised]"),
    click.option("--timestamp-column", help="Column of the time, or of a step number.  [default: recognised]"),
    click.option("--interval", help="Time between steps, such as 1h or 5min.  [default: the file's own]"),
    click.option("--max-gap", help="Longest time without a row inside one series.  [default: 48 intervals]"),
    click.option("--variable-column", help="Event table: column that names what was measured."),
    click.option("--value-column", help="Event table: column of the values."),
    click.option("--unit-column", help="Column of each value's unit."),
    click.option("--unit", help="Unit of the values, such as kPa or degF.  [default: the file's, or the signal's]"),
    click.option("--decimal", type=click.Choice([".", ","]), help="Decimal separator.  [default: detected]"),
    click.option(
        "--date-format",
        metavar="FORMAT",
        help="How dates are written, such as MM/DD/YYYY or DD.MM.YY.  [default: as they show, or refused]",
    ),
    click.option(
        "--duplicates",
        type=click.Choice(["mean", "last", "median", "error"]),
        help="For rows of the same time that disagree.  [default: median, refused above 1 %]",
    ),
    click.option("--where", multiple=True, metavar="COLUMN=VALUE", help="Read only rows with this value; repeatable."),
)


def read_options(function: F) -> F:
    """Add the options of `device_runtime.series.options.ReadOptions`."""
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


def min_observed_option(default: str) -> Callable[[F], F]:
    """Add ``--min-observed``; ``default`` says what holds without it."""
    return click.option(
        "--min-observed", type=click.IntRange(1), help=f"Observed values a context needs.  [default: {default}]"
    )
