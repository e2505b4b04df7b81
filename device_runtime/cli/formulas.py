"""A warning about CSV cells that a spreadsheet would run as formulas.

The cells are names from the user's own data. A changed name would belong to nobody, so none is changed: whoever opens
the file in a spreadsheet is told (docs/guides/data.md).
"""

from __future__ import annotations

from collections.abc import Iterable

import click

FIRST = ("=", "+", "-", "@", "\t", "\r")  # of a formula, as OWASP lists them
SHOWN = 40  # characters of the cell that is shown


def warn_of_formulas(program: str, cells: Iterable[str]) -> None:
    """Print on standard error if any of the ``cells`` begins as a formula does; numbers do not count."""
    found = [cell for cell in dict.fromkeys(cells) if cell.startswith(FIRST) and not _is_number(cell)]
    if found:
        more = f" and {len(found) - 1:,} more" if len(found) > 1 else ""
        click.echo(
            f"{program}: warning: {found[0][:SHOWN]!r}{more}: a spreadsheet would take the name for a formula; "
            "import that column as text, or ask for --json",
            err=True,
        )


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True
