"""The C files as a tree: none needs another that needs it, by the symbols of their objects and by their includes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.support.circles import strongly_connected

from .conftest import SOURCE, need, run

FOLDERS = ("etsa", "forecast_ort", "quality", "service")
OURS = re.compile(r'^#include "([^"]+)"', re.MULTILINE)


def symbols(unit: Path) -> tuple[set[str], set[str]]:
    """What an object file defines for others, and what it needs of them."""
    listed = run("nm", "-P", "-g", unit)
    assert listed.returncode == 0, listed.stderr
    kinds = [line.split()[:2] for line in listed.stdout.splitlines()]
    return {name for name, kind in kinds if kind not in "Uw"}, {name for name, kind in kinds if kind == "U"}


def needs_of(units: dict[str, Path]) -> dict[str, set[str]]:
    """Say for each object file which of the others it needs."""
    found = {name: symbols(path) for name, path in units.items()}
    home = {symbol: name for name, (defined, _) in found.items() for symbol in defined if symbol != "main"}
    return {name: {home[s] for s in needed if s in home} - {name} for name, (_, needed) in found.items()}


def test_no_translation_units_need_each_other(built: Path) -> None:
    need("nm")
    units = {
        f"{folder}/{path.name.removesuffix('.o')}": path
        for folder in FOLDERS
        for path in built.rglob("*.c.o")
        if (SOURCE / folder / path.name.removesuffix(".o")).is_file()
    }
    # main.c is in two folders, and its object says by its own folder which one it is.
    units |= {f"{folder}/main.c": next((built / folder).rglob("main.c.o")) for folder in ("forecast_ort", "service")}
    sources = {str(path.relative_to(SOURCE)) for folder in FOLDERS for path in (SOURCE / folder).glob("*.c")}
    assert sources - set(units) <= {"etsa/etsa_sodium.c", "etsa/etsa_sha256_cpu.c"}, "not in this build"
    edges = needs_of(units)
    assert edges["forecast_ort/forecaster.c"] >= {"forecast_ort/files.c", "forecast_ort/refusal.c", "etsa/etsa.c"}
    assert list(strongly_connected(edges)) == []


def test_a_circle_of_units_is_found(tmp_path: Path) -> None:
    need("cc", "nm")
    (tmp_path / "a.c").write_text("int b(int); int a(int x) { return x > 0 ? b(x - 1) : 0; }")
    (tmp_path / "b.c").write_text("int a(int); int b(int x) { return x > 0 ? a(x - 1) : 1; }")
    for name in "ab":
        assert run("cc", "-c", tmp_path / f"{name}.c", "-o", tmp_path / f"{name}.o").returncode == 0
    edges = needs_of({name: tmp_path / f"{name}.o" for name in "ab"})
    assert list(strongly_connected(edges)) == [["a", "b"]]


@pytest.mark.parametrize("folder", FOLDERS)
def test_no_headers_include_each_other(folder: str) -> None:
    headers = {path.name: set(OURS.findall(path.read_text())) for path in (SOURCE / folder).glob("*.h")}
    assert headers
    edges = {name: included & set(headers) for name, included in headers.items()}
    assert list(strongly_connected(edges)) == []
