"""A group whose commands are files of its package, each imported only when it runs."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

import click

from device_runtime.nearest import did_you_mean
from device_runtime.renamed import say_renamed


class LazyGroup(click.Group):
    """A group whose commands live in ``PACKAGE.VERB`` as ``command``.

    ``--help`` and shell completion stay fast: what a verb needs is imported with the verb.
    """

    def __init__(
        self,
        *args: Any,
        package: str,
        verbs: Mapping[str, str],
        renamed: Mapping[str, str] | None = None,
        **kwargs: Any,
    ) -> None:
        """Take ``verbs``, in the order a newcomer meets them, with a line on each.

        ``renamed`` has the new name of each that the last release called otherwise.
        """
        super().__init__(*args, **kwargs)
        self._package, self._verbs, self._renamed = package, verbs, renamed or {}

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Name the verbs, in the order they were given."""
        return list(self._verbs)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import one verb."""
        if cmd_name in self._renamed:
            say_renamed(cmd_name, self._renamed[cmd_name])
            cmd_name = self._renamed[cmd_name]
        if cmd_name not in self._verbs:
            return None
        command: click.Command = import_module(f"{self._package}.{cmd_name.replace('-', '_')}").command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the verb; the error for an unknown one suggests a similar name."""
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            meant = did_you_mean(args[0], [*self.list_commands(ctx), *self._renamed]).rstrip()
            if not meant or args[0].startswith("-"):
                raise
            raise click.UsageError(f"No such command {args[0]!r}: {meant}", ctx) from error

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the verbs without importing any of them."""
        with formatter.section("Commands"):
            formatter.write_dl([(verb, self._verbs[verb]) for verb in self.list_commands(ctx)])
