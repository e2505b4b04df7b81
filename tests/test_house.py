"""The house as `docs/architecture.md` draws it: no circles among files, none too long, all of them in the wheel."""

import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
MOST_LINES = 400


def strongly_connected(edges: dict[str, set[str]]) -> Iterator[list[str]]:
    """Yield the sets of modules that import each other (Tarjan 1972)."""
    number: dict[str, int] = {}
    lowest: dict[str, int] = {}
    path: list[str] = []

    def visit(module: str) -> Iterator[list[str]]:
        number[module] = lowest[module] = len(number)
        path.append(module)
        for other in sorted(edges[module]):
            if other not in number:
                yield from visit(other)
                lowest[module] = min(lowest[module], lowest[other])
            elif other in path:
                lowest[module] = min(lowest[module], number[other])
        if lowest[module] == number[module]:
            start = path.index(module)
            found = path[start:]
            del path[start:]
            if len(found) > 1:
                yield sorted(found)

    for module in sorted(edges):
        if module not in number:
            yield from visit(module)


def test_a_circle_is_found() -> None:
    assert list(strongly_connected({"a": {"b"}, "b": {"c"}, "c": {"a", "d"}, "d": set()})) == [["a", "b", "c"]]


def test_no_files_import_each_other_in_a_circle() -> None:
    grimp = pytest.importorskip("grimp", reason="comes with import-linter")
    graph = grimp.build_graph("device_runtime", "export", "edge_tsfm")
    edges = {module: set(graph.find_modules_directly_imported_by(module)) for module in graph.modules}
    assert len(edges) > 250
    assert list(strongly_connected(edges)) == []


@pytest.mark.parametrize("package", ["device_runtime", "export", "edge_tsfm"])
def test_no_module_is_too_long(package: str) -> None:
    lengths = {
        str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in (ROOT / package).rglob("*.py")
    }
    assert {name: lines for name, lines in lengths.items() if lines > MOST_LINES} == {}


def test_the_wheel_has_every_package() -> None:
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    rooms = (path.parent for room in ("device_runtime", "export", "edge_tsfm") for path in (ROOT / room).rglob("*.py"))
    assert set(listed) == {".".join(room.relative_to(ROOT).parts) for room in rooms}
