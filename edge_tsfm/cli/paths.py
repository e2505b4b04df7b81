"""Paths on the command line: they are there, or the error suggests what was meant."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

from device_runtime.nearest import did_you_mean_path


class Existing(click.Path):
    """A path that exists; for one that does not, the error suggests a similar name beside it."""

    def __init__(self, *, file_okay: bool = True, dir_okay: bool = True) -> None:
        super().__init__(exists=True, file_okay=file_okay, dir_okay=dir_okay, path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the path. Raises `click.BadParameter`, which names the option."""
        try:
            return super().convert(value, param, ctx)
        except click.BadParameter as error:
            near = "" if os.path.lexists(value) else did_you_mean_path(value)
            if not near:
                raise
            self.fail(f"{error.message.removesuffix('.')}: {near}", param, ctx)


class NewFile(click.Path):
    """A file to write in a folder that exists: better an error now than when there is something to write."""

    def __init__(self) -> None:
        super().__init__(dir_okay=False, path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the path. Raises `click.BadParameter`, which names the option."""
        path = Path(os.fsdecode(super().convert(value, param, ctx)))
        if not path.parent.is_dir():
            near = did_you_mean_path(path.parent)
            said = f"There is no folder {str(path.parent)!r} to write it in"
            self.fail(f"{said}: {near}" if near else f"{said}.", param, ctx)
        return path


class Bundle(Existing):
    """A bundle's folder; or, if nothing here is called so, the name of a repository of the Hugging Face hub."""

    def __init__(self) -> None:
        super().__init__(file_okay=False)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the folder's path, or the repository's name as text. Raises `click.BadParameter`."""
        from edge_tsfm.runs.hub import is_repository

        return value if is_repository(value) else super().convert(value, param, ctx)
