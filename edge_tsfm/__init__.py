"""edge-tsfm on the workstation: data, training, evaluation, deployment.

    import edge_tsfm as et
    run = et.train("ward.csv", target="MAP", out="run")

The five functions are those of `edge_tsfm.api`; they load on first use.
"""

from importlib import import_module
from typing import Any

import device_runtime as _device_runtime  # noqa: F401 - first: it silences ONNX Runtime (docs/adr/0018)

__version__ = "0.1.0"

_VERBS = ("evaluate", "export_adapter", "export_base", "forecast", "load_run", "train")
_FROM = {**dict.fromkeys(_VERBS, "edge_tsfm.api"), "Callback": "edge_tsfm.training.callbacks"}

__all__ = [*_FROM, "__version__"]  # noqa: PLE0604 - a list of text, computed once


def __getattr__(name: str) -> Any:
    """Import the public ``name``."""
    if name not in _FROM:
        raise AttributeError(f"module 'edge_tsfm' has no attribute {name!r}")
    return getattr(import_module(_FROM[name]), name)


def __dir__() -> list[str]:
    """List the public names."""
    return sorted(__all__)
