"""The runtime on the monitor: standard library, numpy and onnxruntime, nothing else.

    from device_runtime import Forecaster
    forecast = Forecaster.open("bundle", adapter="map.etsa").forecast(context, prediction_length=6)

Names load on first use: reading an error code or a manifest does not start ONNX Runtime.
"""

import os
from importlib import import_module
from typing import Any

# Microsoft's builds of ONNX Runtime from 1.29 on write a device identifier to the home folder and report models and
# machine to Microsoft, unless this is set before the library loads (docs/adr/0018). An import's only side effect here.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

__version__ = "0.1.0"

_SURFACE = {
    "Adapter": "device_runtime.format.adapter",
    "Binding": "device_runtime.format.binding",
    "Bundle": "device_runtime.forecast.bundle",
    "DeviceRuntimeError": "device_runtime.errors",
    "Forecast": "device_runtime.forecast.forecaster",
    "Forecaster": "device_runtime.forecast.forecaster",
    "SessionSettings": "device_runtime.forecast.session",
    "Stream": "device_runtime.forecast.stream",
    "Use": "device_runtime.format.binding",
    "decode": "device_runtime.format.blob",
    "encode": "device_runtime.format.blob",
    "merge": "device_runtime.forecast.merge",
}

__all__ = sorted(_SURFACE)  # noqa: PLE0605 - a list of text, computed once


def __getattr__(name: str) -> Any:
    """Import the module that defines ``name``."""
    if name not in _SURFACE:
        raise AttributeError(f"module 'device_runtime' has no attribute {name!r}")
    return getattr(import_module(_SURFACE[name]), name)


def __dir__() -> list[str]:
    """List the public names."""
    return __all__
