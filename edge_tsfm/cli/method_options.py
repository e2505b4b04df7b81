"""The options of methods on the command line, as `edge_tsfm.options` declares them."""

from __future__ import annotations

from dataclasses import Field, fields
from typing import Any

import click

from device_runtime.cli.read_options import F
from edge_tsfm.options import Options


def method_options(function: F) -> F:
    """Add an option for each field of `Options` that has a help text; what is not given is None."""
    for one in reversed(fields(Options)):
        if one.metadata["help"]:
            function = _option(one)(function)
    return function


def _option(one: Field[Any]) -> Any:
    """Make the option of a field."""
    choices, whole = one.metadata["choices"], one.type == "int | None"
    default = f"  [default: {one.default}]" if one.default is not None else ""
    return click.option(
        f"--{one.name.replace('_', '-')}",
        type=click.Choice(choices) if choices else click.IntRange(1) if whole else str,
        help=one.metadata["help"] + default,
    )
