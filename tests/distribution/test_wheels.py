"""Both wheels: what is in them, and that they run where they are installed."""

import hashlib
import sys
import zipfile
from collections.abc import Callable
from email.parser import BytesParser
from pathlib import Path

import pytest

from device_runtime.cli import VERBS
from tests.distribution.conftest import ROOT, environment, fresh, run

DUMMY = ROOT / "tests" / "dummy_bases"
MOST_DEVICE = 330_000  # bytes; the libraries it needs are a hundred times as large
HELPS = """
import click, sys
from device_runtime import cli

def say(command, name, parent=None):
    context = click.Context(command, info_name=name, parent=parent, terminal_width=100)
    print(command.get_help(context))
    if isinstance(command, click.Group):
        for verb in command.list_commands(context):
            say(command.get_command(context, verb), verb, context)

say(cli.cli, "edge-tsfm-device")
"""


def names(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def files(package: str) -> set[str]:
    """What git tracks of a package is what its wheel must have, no more and no less."""
    return set(run("git", "-C", ROOT, "ls-files", "--cached", package).split("\n")) - {""}


def installed(wheel: Path, folder: Path) -> Path:
    """Install a wheel without its dependencies; they are seen where the tests have them. Return the scripts' folder.

    A folder on a .pth file's line is searched, but its own .pth files are not read: an editable install of the tree
    that is there stays unseen.
    """
    python = fresh(folder)
    (site,) = folder.glob("lib/python3*/site-packages")
    (site / "of_the_tests.pth").write_text("\n".join(path for path in sys.path if path.endswith("site-packages")))
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-index", "--no-deps"]
    run(*pip, wheel)
    return python.parent


def test_the_devices_wheel_is_the_runtime_and_nothing_else(wheels: dict[str, Path]) -> None:
    wheel = wheels["edge_tsfm_device"]
    program = {name for name in files("device_runtime") if not name.endswith(".md")}
    assert {name for name in names(wheel) if ".dist-info/" not in name} == program
    assert wheel.stat().st_size <= MOST_DEVICE


def test_the_workstations_wheel_is_the_rest_and_needs_the_devices(wheels: dict[str, Path]) -> None:
    wheel = wheels["edge_tsfm"]
    assert {name for name in names(wheel) if ".dist-info/" not in name} == files("edge_tsfm") | files("export")
    with zipfile.ZipFile(wheel) as archive:
        (metadata,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        facts = BytesParser().parsebytes(archive.read(metadata))
    needed = [line for line in facts.get_all("Requires-Dist", []) if "extra ==" not in line]
    assert needed == [f"edge-tsfm-device=={facts['Version']}"]


@pytest.mark.parametrize("wheel", ["edge_tsfm_device", "edge_tsfm"])
def test_licence_and_types_travel_with_it(wheels: dict[str, Path], wheel: str) -> None:
    found = names(wheels[wheel])
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in found)
    assert any(name.endswith("/py.typed") for name in found)


@pytest.mark.slow
def test_the_same_tree_gives_the_same_bytes(
    wheels: dict[str, Path], script: Callable[..., str], tmp_path: Path
) -> None:
    script("wheels.py", "--out", tmp_path)
    for again in tmp_path.glob("*.whl"):
        first = wheels[again.name.split("-")[0]]
        assert hashlib.sha256(again.read_bytes()).digest() == hashlib.sha256(first.read_bytes()).digest(), again.name


def test_a_monitor_with_the_devices_wheel_proves_an_adapter(wheels: dict[str, Path], tmp_path: Path) -> None:
    scripts = installed(wheels["edge_tsfm_device"], tmp_path / "venv")
    said = run(
        scripts / "edge-tsfm-device",
        *("selftest", DUMMY / "chronos-bolt-bundle", "--adapter", DUMMY / "chronos-bolt.etsa"),
        cwd=tmp_path,
    )
    assert "passed" in said
    where = "import device_runtime, importlib.util as u; print(device_runtime.__file__, u.find_spec('edge_tsfm'))"
    file, workstation = run(scripts / "python", "-c", where, cwd=tmp_path).split()
    assert Path(file).is_relative_to(tmp_path)
    assert workstation == "None"
    assert not (scripts / "edge-tsfm").exists()


def test_the_devices_wheel_says_the_same_help_as_the_source(wheels: dict[str, Path], tmp_path: Path) -> None:
    scripts = installed(wheels["edge_tsfm_device"], tmp_path / "venv")
    said = run(scripts / "python", "-c", HELPS, cwd=tmp_path)
    assert said == run(sys.executable, "-c", HELPS, cwd=ROOT, env={**environment(), "PYTHONPATH": str(ROOT)})
    assert said.count("Usage: edge-tsfm-device ") > len(VERBS)


def test_a_workstation_with_both_wheels_verifies_an_adapter(wheels: dict[str, Path], tmp_path: Path) -> None:
    scripts = installed(wheels["edge_tsfm_device"], tmp_path / "venv")
    python = [sys.executable, "-m", "pip", "--python", scripts / "python"]
    # The pinned dependency is there; of the rest pip knows what the tests have installed.
    run(*python, "install", "--quiet", "--no-index", wheels["edge_tsfm"])
    said = run(
        scripts / "edge-tsfm",
        *("verify", DUMMY / "chronos-bolt.etsa", "--bundle", DUMMY / "chronos-bolt-bundle"),
        cwd=tmp_path,
    )
    assert "chronos-bolt" in said or "known answer" in said
    where = "import edge_tsfm, export, device_runtime as d; print(edge_tsfm.__file__, export.__file__, d.__file__)"
    assert all(
        Path(file).is_relative_to(tmp_path) for file in run(scripts / "python", "-c", where, cwd=tmp_path).split()
    )
