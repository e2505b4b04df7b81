"""The runtime on the monitor: standard library, numpy and onnxruntime, nothing else."""
