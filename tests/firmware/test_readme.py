"""The README's code compiles, its first forecast runs, and its sizes are measured ones."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

import numpy as np
import pytest

from .conftest import SOURCE, need, run

README = (SOURCE / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, flags=re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("code", blocks("c"), ids=range(len(blocks("c"))))
def test_c_compiles(tmp_path: Path, code: str) -> None:
    need("cc")
    (tmp_path / "example.c").write_text(code)
    flags = [
        "-std=c99",
        "-Wall",
        "-Wextra",
        "-Wconversion",
        "-pedantic",
        "-Werror",
        "-I",
        SOURCE / "etsa",
        "-I",
        SOURCE / "learn",
    ]
    done = run("cc", *flags, "-c", tmp_path / "example.c", "-o", tmp_path / "example.o")
    assert done.returncode == 0, done.stderr


def test_first_forecast(built: Path, library: Path) -> None:
    """What follows the build in the first block, and the refusal in the second, as printed."""
    first, second = blocks("sh")[:2]
    command = first[first.index("build/x86-64/forecast_ort") :] + second
    environment = {**os.environ, "ONNXRUNTIME_LIBRARY": str(library)}
    script = command.replace("build/x86-64", str(built)).replace("build/cut.etsa", str(built / "cut.etsa"))
    done = subprocess.run(
        ["/bin/sh", "-c", script], cwd=SOURCE, env=environment, capture_output=True, text=True, check=False
    )
    assert done.stdout.startswith("step,0.1,0.5,0.9\n1,")
    wanted = re.findall(r"^# (etsa-forecast: .*)$", second, flags=re.MULTILINE)
    assert wanted == re.findall(r"^etsa-forecast: .*$", done.stderr, flags=re.MULTILINE)
    assert len(wanted) == 2


def test_service(built: Path, library: Path) -> None:
    """The feed, and the forecast as printed: all but latency, and the last digits, which are the processor's."""
    need("awk")
    (command,) = (block for block in blocks("sh") if "etsa-service" in block)
    (printed,) = blocks("json")
    environment = {**os.environ, "ONNXRUNTIME_LIBRARY": str(library)}
    script = command.replace("build/x86-64", str(built))
    done = subprocess.run(
        ["/bin/sh", "-c", script], cwd=SOURCE, env=environment, capture_output=True, text=True, check=False
    )
    assert "channel 0 runs sample_data/ward.etsa" in done.stderr
    got, wanted = json.loads(done.stdout), json.loads(printed)
    assert list(got) == list(wanted)
    assert got.pop("latency_ms") > 0 < wanted.pop("latency_ms")
    levels = got.pop("quantiles"), wanted.pop("quantiles")
    assert got == wanted
    assert list(levels[0]) == list(levels[1])
    np.testing.assert_allclose(list(levels[0].values()), list(levels[1].values()), rtol=1e-5, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize(("column", "compiler"), [(1, "aarch64-linux-gnu-gcc"), (2, "arm-linux-gnueabihf-gcc")])
def test_sizes_are_those_of_the_table(column: int, compiler: str) -> None:
    """To one per cent on the compiler that the table names, on another within a fifth; ceilings hold on every one."""
    need(compiler)
    named = re.search(r"the figures are GCC (\S+)'s", README)
    assert named is not None
    allowed = 0.01 if f" {named[1]}." in run(compiler, "--version").stdout else 0.2
    done = run("python3", SOURCE / "sizes.py", "--compiler", compiler)
    assert done.returncode == 0, done.stdout
    measured = {
        re.split(r"\s{2,}", line)[0]: int(re.findall(r" (\d+)", line)[0]) for line in done.stdout.splitlines()[2:]
    }
    measured["adapt"] = sum(size for name, size in measured.items() if name.startswith("etsa_adapt"))
    for name, row in (
        ("adapt", r"\| the eight `etsa_adapt\*\.c`, text"),
        ("etsa_promotion.c", r"\| `etsa_promotion\.c`, text"),
        ("etsa.c", r"\| `etsa\.c`, text"),
        ("etsa_sha256.c", r"\| `etsa_sha256\.c`, text"),
        ("etsa_learn.c", r"\| `etsa_learn\.c`, text"),
        ("etsa_tracking.c", r"\| `etsa_tracking\.c`, text"),
        ("etsa_learning.c", r"\| `etsa_learning\.c`, text"),
        ("etsa_write.c", r"\| `etsa_write\.c`, text"),
        ("etsa_write_check.c", r"\| `etsa_write_check\.c`, text"),
        ("etsa_quality.c", r"\| `etsa_quality\.c`, text"),
        ("etsa_evidence.c", r"\| `etsa_evidence\.c`, text"),
        ("deepest stack", r"\| deepest stack: `learn/`"),
        ("verifier", r"\| verifier, text[^|]*"),
        ("verifier stack", r"\| verifier, stack"),
    ):
        (line,) = re.findall(rf"^{row} (.*)$", README, flags=re.MULTILINE)
        cells = [int(cell.replace(",", "")) for cell in re.findall(r"[\d,]+", line)]
        assert cells[column] == pytest.approx(measured[name], rel=allowed), name


def test_recipes_that_are_not_built_name_files_that_exist() -> None:
    """Yocto's recipe and Zephyr's module: sources, units and binaries they speak of."""
    yocto, zephyr = SOURCE / "yocto" / "README.md", SOURCE / "zephyr"
    for page in (yocto, zephyr / "README.md"):
        assert "**Not built by our CI.**" in page.read_text(encoding="utf-8")
    recipe = yocto.read_text(encoding="utf-8")
    named = re.findall(r"\$\{S\}/(firmware_examples/[\w./-]*[\w])", recipe)
    assert len(named) == 2
    for path in named:
        assert (SOURCE.parent / path).exists(), path
    for folder, binary in re.findall(r"\$\{B\}/(\w+)/([\w-]+)", recipe):
        assert f"add_executable({binary} " in (SOURCE / folder / "CMakeLists.txt").read_text(encoding="utf-8")
    module = (zephyr / "zephyr" / "module.yml").read_text(encoding="utf-8")
    for kind, path in re.findall(r"(cmake|kconfig): (\S+)", module):
        assert (zephyr / path / "CMakeLists.txt" if kind == "cmake" else zephyr / path).exists()
    sources = re.findall(r"CMAKE_CURRENT_LIST_DIR\}/([\w./]+)", (zephyr / "zephyr" / "CMakeLists.txt").read_text())
    assert len(sources) == 3
    for path in sources:
        assert (zephyr / "zephyr" / path).exists(), path
