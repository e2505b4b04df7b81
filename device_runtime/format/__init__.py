"""Bytes to values and back: blob, manifest, signatures, and what they hold. No I/O, and no ONNX Runtime."""
