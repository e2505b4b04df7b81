"""Options for what to forecast and from which values, declared once for all commands."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from typing import Any

import click

from device_runtime.cli.read_options import F

TOGETHER = "several are forecast together (Chronos-2)."


def length_options(*, context: str, prediction: str) -> Callable[[F], F]:
    """Add ``--prediction-length`` and ``--context-length``; the arguments are the defaults that the help shows."""

    def add(function: F) -> F:
        for name, what, default in (
            ("--context-length", "Latest steps to use.", context),
            ("--prediction-length", "Steps to forecast.", prediction),
        ):
            function = click.option(name, type=click.IntRange(1), help=f"{what}  [default: {default}]")(function)
        return function

    return add


def covariate_options(function: F) -> F:
    """Add ``--past-covariate`` and ``--future-covariate``, for a base that supports covariates."""
    for name, what in (
        ("future", "Column known ahead (Chronos-2): also has values in the last rows, the steps to forecast."),
        ("past", "Column known only up to the present (Chronos-2)."),
    ):
        function = click.option(f"--{name}-covariate", f"{name}_covariates", multiple=True, help=what)(function)
    return function


def sampling_options(function: F) -> F:
    """Add ``--num-samples`` and ``--seed``, for a base that samples."""
    seed = click.option("--seed", type=click.IntRange(0), default=0, help="Which paths to sample (Chronos-T5).")
    count = click.option(
        "--num-samples", type=click.IntRange(1), help="Paths to sample (Chronos-T5).  [default: the base's own]"
    )
    return count(seed(function))


def taken(kind: type, given: dict[str, Any]) -> dict[str, Any]:
    """Remove from ``given``, a command's options by name, those that are fields of ``kind``, and return them."""
    return {one.name: given.pop(one.name) for one in fields(kind) if one.name in given}
