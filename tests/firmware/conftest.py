"""The C core and samples, built once for the tests here, and a small bundle for them to open."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from device_runtime.forecast.bundle import Bundle
from device_runtime.format.blob import encode

from .dummy import make_adapter, make_bundle
from .service import SERIES

SOURCE = Path(__file__).parents[2] / "firmware_examples"


def run(*command: object, cwd: Path | None = None, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run one of our own commands."""
    return subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        input=stdin,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


def need(*tools: str) -> None:
    """Skip with the reason when a tool is missing."""
    missing = [tool for tool in tools if shutil.which(tool) is None]
    if missing:
        pytest.skip(f"needs {', '.join(missing)} (see firmware_examples/README.md)")


def build(folder: Path, *options: str) -> Path:
    """Configure and build firmware_examples into ``folder``."""
    need("cmake", "cc")
    for step in (
        ["cmake", "-S", SOURCE, "-B", folder, *options],
        ["cmake", "--build", folder, "--parallel", "2"],
    ):
        done = run(*step)
        assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    return folder


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A build for this machine."""
    return build(tmp_path_factory.mktemp("firmware"))


@pytest.fixture(scope="session")
def library() -> Path:
    """ONNX Runtime's shared library, from the wheel."""
    import onnxruntime

    found = sorted((Path(onnxruntime.__file__).parent / "capi").glob("libonnxruntime.so.1*"))
    if not found:
        pytest.skip("this onnxruntime has no libonnxruntime.so")
    return found[0]


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The small bundle of `dummy`."""
    pytest.importorskip("onnx", reason="makes its model with onnx")
    return make_bundle(tmp_path_factory.mktemp("bundle"))


@pytest.fixture(scope="module")
def blob(bundle: Bundle) -> bytes:
    return encode(make_adapter(bundle))


@pytest.fixture
def files(tmp_path: Path, blob: bytes) -> Path:
    (tmp_path / "map.etsa").write_bytes(blob)
    rows = "".join(
        "time,MAP\n" if i < 0 else f"{i},{'' if np.isnan(SERIES[i]) else SERIES[i]}\n" for i in range(-1, 50)
    )
    (tmp_path / "series.csv").write_text(rows)
    return tmp_path
