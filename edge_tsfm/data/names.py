"""File names: the extension gives the kind of file, the rest the item."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePath

from edge_tsfm.errors import DataError

TABLE_ENDINGS = (".csv", ".tsv", ".parquet", ".pq", ".csv.gz", ".tsv.gz")
TEXT_ENDINGS = (".txt", ".txt.gz")
_KNOWN = (*TABLE_ENDINGS, *TEXT_ENDINGS, ".psv", ".psv.gz", ".hea")
# What operating systems and archives leave in a folder.
_LITTER = {"__macosx", "thumbs.db", "desktop.ini"}
_NO_DATA = ("readme", "license", "licence", "copying", "changes", "changelog", "sha256sums", "records", "notes")


def has_ending(path: PurePath, endings: tuple[str, ...]) -> bool:
    """Return whether a file's name ends so, in any capitals."""
    return path.name.casefold().endswith(endings)


def stem(path: PurePath) -> str:
    """Return a file's name without its known ending: ``patient.001`` of ``patient.001.csv.gz``."""
    ending = max((one for one in _KNOWN if has_ending(path, (one,))), key=len, default="")
    return path.name[: len(path.name) - len(ending)] or path.name


def is_litter(path: PurePath) -> bool:
    """Return whether a path below a folder is hidden, or what an operating system left there."""
    return any(part.startswith(".") or part.casefold() in _LITTER for part in path.parts)


def is_about(path: PurePath) -> bool:
    """Return whether a text file, by its name, is documentation and not data."""
    return path.name.casefold().startswith(_NO_DATA)


def files_below(folder: Path) -> list[Path]:
    """Return all files in ``folder`` and below that are not litter, in order of their paths."""
    return sorted(path for path in folder.rglob("*") if path.is_file() and not is_litter(path.relative_to(folder)))


def names_of(folder: Path, files: Sequence[Path]) -> tuple[str, ...]:
    """Return what to call each of the files: its stem, with its sub-folder where another has the same stem.

    Raises `DataError` for two of one stem in one folder: they would be one patient twice.
    """
    stems = [stem(one) for one in files]
    count = Counter(stems)
    names = [
        str(one.relative_to(folder).with_name(name)) if count[name] > 1 else name
        for one, name in zip(files, stems, strict=True)
    ]
    seen: dict[str, Path] = {}
    for one, name in zip(files, names, strict=True):
        if (other := seen.setdefault(name, one)) is not one:
            raise DataError(
                f"{folder}: {other.name} and {one.name} are both called {name}: the same data twice?",
                hint="remove one, or rename it",
            )
    return tuple(names)
