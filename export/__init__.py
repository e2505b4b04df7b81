"""Torch in, files out: the frozen base as a bundle, each adaptation as a blob.

    export_base(model, family="chronos-bolt", name=..., out=..., provenance=...)   -> BaseExport
    export_precision(bundle, out=..., precision="int8", adapted=names)              -> PrecisionExport
    export_optimum(model, family="chronos-t5", out=..., provenance=...)             -> OptimumExport
    export_learning(model, bundle, learnable="biases", loss=...)                    -> LearningExport
    export_static(model, bundle, context_length=512, batch=1)                       -> StaticExport
    export_adapter(bundle=..., base=..., tuned=..., deltas=..., contexts=..., ...)  -> AdapterExport

Names load on first use: an error's class does not import torch.
"""

from importlib import import_module
from typing import Any

import device_runtime as _device_runtime  # noqa: F401 - first: it silences ONNX Runtime (docs/adr/0018)

_SURFACE = {
    "AdapterExport": "export.adapter",
    "BaseExport": "export.base",
    "ExportError": "export.errors",
    "FourierSites": "export.learning",
    "LearningExport": "export.learning",
    "OptimumExport": "export.optimum_layout",
    "PrecisionExport": "export.quantize",
    "StaticExport": "export.static",
    "export_adapter": "export.adapter",
    "export_base": "export.base",
    "export_learning": "export.learning",
    "export_optimum": "export.optimum_layout",
    "export_precision": "export.quantize",
    "export_static": "export.static",
    "with_calibration": "export.adapter",
}

__all__ = sorted(_SURFACE)  # noqa: PLE0605 - a list of text, computed once


def __getattr__(name: str) -> Any:
    """Import the module that defines ``name``."""
    if name not in _SURFACE:
        raise AttributeError(f"module 'export' has no attribute {name!r}")
    return getattr(import_module(_SURFACE[name]), name)
