"""Renamed options, whose old name still works for one release."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import click
from click.core import ParameterSource

from device_runtime.renamed import say_renamed

F = TypeVar("F", bound=Callable[..., Any])


def renamed_option(new: str, *declarations: str, old: str, **settings: Any) -> Callable[[F], F]:
    """Declare the option ``new`` as `click.option` does, and its ``old`` name, which no help lists."""
    before = old.lstrip("-").replace("-", "_") + "_before"
    hidden = {"multiple": settings.get("multiple", False), "type": settings.get("type")}

    def declare(function: F) -> F:
        known = click.option(new, *declarations, cls=_Renamed, old=old, before=before, **settings)(function)
        return click.option(old, before, hidden=True, expose_value=False, **hidden)(known)

    return declare


class _Renamed(click.Option):
    """An option that also takes what was given under its old name."""

    def __init__(self, *declarations: Any, old: str, before: str, **settings: Any) -> None:
        """Remember the old name, and where the parser keeps what was given under it."""
        super().__init__(*declarations, **settings)
        self._old, self._before = old, before

    def consume_value(self, ctx: click.Context, opts: Mapping[str, Any]) -> tuple[Any, ParameterSource]:
        """Return the value under either name. Raises `click.UsageError` for one value under both."""
        if self._before not in opts:
            return super().consume_value(ctx, opts)
        new, name = self.opts[-1], self.name
        assert name is not None
        say_renamed(self._old, new)
        given = opts[self._before]
        if self.multiple:
            given = [*opts.get(name, ()), *given]
        elif name in opts:
            raise click.UsageError(f"{self._old} is the old name of {new}: want one of them", ctx=ctx)
        return given, ParameterSource.COMMANDLINE
