"""The house as `docs/architecture.md` draws it: no circles among files, none too long, all of them in the wheel."""

import tomllib
from pathlib import Path

import pytest

from tests.support.circles import strongly_connected

ROOT = Path(__file__).resolve().parents[1]
MOST_LINES = 400


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


@pytest.mark.parametrize("package", ["device_runtime", "export", "edge_tsfm"])
def test_tests_lie_where_the_code_does(package: str) -> None:
    """A folder of tests is a room of the code; one of a dozen modules has tests of its own, or in the room above."""
    rooms = {path.parent.relative_to(ROOT) for path in (ROOT / package).rglob("*.py")}
    tested = {path.parent.relative_to(ROOT / "tests") for path in (ROOT / "tests" / package).rglob("test_*.py")}
    assert tested <= rooms
    large = {room for room in rooms if len(list((ROOT / room).glob("*.py"))) > 12}
    near = tested | {parent for folder in tested for parent in folder.parents}
    assert {room for room in large if room not in near and room.parent not in tested} == set()
