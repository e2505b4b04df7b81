"""``edge-tsfm bench-table``."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edge_tsfm.cli.bench import PRECISIONS, random_base
from edge_tsfm.cli.paths import Existing, NewFile

if TYPE_CHECKING:
    from device_runtime.forecast.bundle import Bundle
    from edge_tsfm.models import Base


@click.command("bench-table")
@click.option("--base", "names", multiple=True, help="Bundled name or local folder; may be repeated.")
@click.option(
    "--config",
    "configs",
    type=Existing(dir_okay=False),
    multiple=True,
    help="A config.json: a model of that shape with random weights; may be repeated.",
)
@click.option(
    "--precision",
    "precisions",
    type=click.Choice(PRECISIONS),
    multiple=True,
    default=("float32", "int8"),
    help="Precision of the frozen weights; may be repeated.",
)
@click.option("--keep", help="Other precisions than float32: what adapters may change, as in export base.")
@click.option(
    "--batch", "batches", type=click.IntRange(1), multiple=True, help="Contexts in one run.  [default: the family's]"
)
@click.option("--threads", type=click.IntRange(1), default=2, help="Threads for torch and for the runtime.")
@click.option("--runs", type=click.IntRange(3), default=50, help="Timed forecasts of each.")
@click.option(
    "--out",
    type=NewFile(),
    required=True,
    help="Table as JSON. Lines that it has already are not timed again.",
)
@click.option("--html", type=NewFile(), help="Also write a page with a picture.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(
    names: tuple[str, ...],
    configs: tuple[Path, ...],
    precisions: tuple[str, ...],
    keep: str | None,
    batches: tuple[int, ...],
    threads: int,
    runs: int,
    out: Path,
    html: Path | None,
    as_json: bool,
) -> None:
    """Time several bases and precisions against the torch pipeline, as one table and one page.

    Start it again after an interruption, and it goes on with the lines that are missing. Run it on an idle machine.
    """
    from device_runtime.files import write_atomic
    from edge_tsfm.methods.sites import kept_tensors
    from edge_tsfm.models import load_base
    from edge_tsfm.models.base import BUNDLED, BUNDLED_FOLDER
    from edge_tsfm.research.bench import check_timed
    from edge_tsfm.research.bench_page import page, text
    from edge_tsfm.research.bench_table import Setting, continued, measured

    if not names and not configs:
        raise click.UsageError("name a --base or a --config; either may be repeated")
    table = continued(out, Setting(threads=threads, runs=runs, keep=keep, batches=batches))
    with tempfile.TemporaryDirectory() as scratch:
        random = [random_base(one, Path(scratch) / f"{n}" / one.parent.resolve().name) for n, one in enumerate(configs)]
        bases = [(load_base(source), source) for source in (*names, *random)]
        _check_apart([base.bundle_name for base, _ in bases])
        for base, _ in bases:
            check_timed(base.family)
            kept_tensors(base.model, keep)  # better an error now than after the first lines
        for n, (base, source) in enumerate(bases):
            folder = BUNDLED_FOLDER / source if source in BUNDLED else Path(source)
            made = dict(_bundles(base, Path(scratch) / f"bundles-{n}", precisions, keep))
            for line in measured(base, folder, made, table):
                table = table.having(line)
                table.save(out)
                if not as_json:
                    click.echo(f"{line.base} {line.precision}: timed", err=True)
    if html is not None:
        write_atomic(html, page(table).encode())
    click.echo(out.read_text(encoding="utf-8") if as_json else text(table))


def _check_apart(names: list[str]) -> None:
    """Refuse bases that a table could not tell apart: of two it would time one. Raises `click.UsageError`."""
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise click.UsageError(
            f"two bases are named {twice[0]}: a table has each once; a config.json is named by its folder"
        )


def _bundles(
    base: Base, folder: Path, precisions: tuple[str, ...], keep: str | None
) -> Iterator[tuple[str, Callable[[], Bundle]]]:
    """Return what exports a base in each precision into ``folder``."""
    from functools import cache

    from device_runtime.forecast.bundle import Bundle
    from edge_tsfm.methods.sites import kept_tensors
    from export import export_base, export_precision

    @cache
    def float32() -> Bundle:
        out = folder / "float32"
        export_base(base.model, family=base.family, name=base.bundle_name, out=out, provenance=base.provenance)
        return Bundle.open(out)

    def other(precision: str) -> Bundle:
        out = folder / precision
        export_precision(float32(), out=out, precision=precision, adapted=kept_tensors(base.model, keep))
        return Bundle.open(out)

    folder.mkdir()
    for precision in precisions:
        yield precision, float32 if precision == "float32" else partial(other, precision)
