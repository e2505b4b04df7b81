"""edge-tsfm on the workstation: data, training, evaluation, deployment."""

import device_runtime as _device_runtime  # noqa: F401 - first: it silences ONNX Runtime (docs/adr/0018)

__version__ = "0.1.0"
