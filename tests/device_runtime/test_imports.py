"""A monitor installs numpy, onnxruntime and click: nothing else may be imported there."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[2] / "device_runtime"
EVERYWHERE = {"numpy", "device_runtime"}
# The update client is an extra; its libraries are imported by these modules alone.
ALLOWED = {
    "session.py": {"onnxruntime"},
    "providers.py": {"onnxruntime"},
    "envelope.py": {"cryptography"},
    "adapt_export.py": {"cryptography"},  # in the one function that signs
}


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_device_runtime_imports_only_what_a_monitor_has(path: Path) -> None:
    allowed = sys.stdlib_module_names | EVERYWHERE | ALLOWED.get(path.name, set())
    if "cli" in path.relative_to(PACKAGE).parts:
        allowed |= {"click"}
    if path.parent.name == "agent" or path.name == "update.py":
        allowed |= {"tuf", "securesystemslib", "cryptography"}
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "import from the root package"
            names = [node.module or ""]
        else:
            continue
        for name in names:
            assert name.split(".")[0] in allowed, f"{path.name}:{node.lineno} imports {name}"


def test_importing_the_package_starts_nothing() -> None:
    code = (
        "import sys, device_runtime, device_runtime.errors; print('numpy' in sys.modules, 'onnxruntime' in sys.modules)"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.split() == ["False", "False"]


@pytest.mark.parametrize(
    "module", ["device_runtime.forecast.session", "export.quantize_graph", "edge_tsfm.research.profiling"]
)
def test_onnx_runtime_writes_and_reports_nothing(module: str, tmp_path: Path) -> None:
    """Builds from 1.29 on would leave an identifier and a database of events in the home folder (docs/adr/0018)."""
    if module != "device_runtime.forecast.session":
        pytest.importorskip("onnx", reason="a workstation's module")
        pytest.importorskip("torch", reason="a workstation's module")
    # Those that keep the library itself silent must not make the test pass.
    silencers = {"CI", "ORT_DISABLE_TELEMETRY", "ORT_RUNNING_UNIT_TESTS", "TF_BUILD", "GITHUB_ACTIONS"}
    known = {name: value for name, value in os.environ.items() if name not in silencers}
    known |= {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    code = f"import sys, {module}; print('onnxruntime' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=known)
    assert done.stdout.split() == ["True"]
    assert [path for path in tmp_path.rglob("*") if "onnxruntime" in str(path) or path.suffix == ".db"] == []
