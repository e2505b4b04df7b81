"""The C core through ctypes: the same structures as etsa.h, checked by size."""

from __future__ import annotations

import ctypes
from pathlib import Path

import numpy as np

from .conftest import SOURCE, need, run

PROBE = r"""
#include "etsa.h"
size_t adapter_size(void) { return sizeof(etsa_adapter); }
size_t delta_size(void) { return sizeof(etsa_delta); }
"""


class Text(ctypes.Structure):
    _fields_ = [("at", ctypes.c_void_p), ("size", ctypes.c_uint32)]


class CAdapter(ctypes.Structure):
    _fields_ = [
        ("blob", ctypes.c_void_p),
        ("size", ctypes.c_uint32),
        ("record_count", ctypes.c_uint32),
        ("base_digest", ctypes.c_void_p),
        ("version", ctypes.c_uint64),
        ("forced", ctypes.c_bool),
        ("delta_count", ctypes.c_uint32),
        ("parameters", ctypes.c_uint32),
        ("context_size", ctypes.c_uint32),
        ("expected_size", ctypes.c_uint32),
        ("tolerance", ctypes.c_float),
        ("context", ctypes.c_void_p),
        ("expected", ctypes.c_void_p),
        ("calibration_levels", ctypes.c_uint32),
        ("calibration_steps", ctypes.c_uint32),
        ("calibration", ctypes.c_void_p),
        ("calibration_dtype", ctypes.c_uint8),
        ("metadata", Text),
        ("signal", Text),
        ("signal_code", Text),
        ("unit", Text),
        ("interval_us", ctypes.c_uint64),
        ("context_length", ctypes.c_uint32),
        ("prediction_length", ctypes.c_uint32),
        ("low", ctypes.c_float),
        ("high", ctypes.c_float),
        ("rule", ctypes.c_uint8),
        ("where", ctypes.c_uint32),
    ]


class CDelta(ctypes.Structure):
    _fields_ = [
        ("tensor", ctypes.c_uint32),
        ("rows", ctypes.c_uint32),
        ("columns", ctypes.c_uint32),
        ("kind", ctypes.c_uint8),
        ("dtype", ctypes.c_uint8),
        ("count", ctypes.c_uint32),
        ("seed", ctypes.c_uint32),
        ("scaling", ctypes.c_float),
        ("entries", ctypes.c_void_p),
        ("numbers", ctypes.c_void_p),
        ("record", ctypes.c_uint32),
        ("member", ctypes.c_uint32),
    ]


class Core:
    """A shared library of the core."""

    def __init__(self, folder: Path) -> None:
        need("cc")
        probe, path = folder / "probe.c", folder / "libetsa.so"
        probe.write_text(PROBE)
        sources = [SOURCE / "etsa" / "etsa.c", SOURCE / "etsa" / "etsa_sha256.c", probe]
        flags = ["-std=c99", "-O2", "-shared", "-fPIC", "-I", SOURCE / "etsa", "-o", path]
        done = run("cc", *flags, *sources)
        assert done.returncode == 0, done.stderr
        self.library = ctypes.CDLL(str(path))
        for name in ("etsa_scratch_count", "adapter_size", "delta_size"):
            getattr(self.library, name).restype = ctypes.c_size_t
        self.library.etsa_next.restype = ctypes.c_bool
        assert self.library.adapter_size() == ctypes.sizeof(CAdapter)
        assert self.library.delta_size() == ctypes.sizeof(CDelta)

    def decode(self, blob: bytes) -> tuple[int, CAdapter]:
        """Return the code and the adapter, whose ``rule`` says what refused. Keep ``blob`` alive."""
        adapter = CAdapter()
        code = self.library.etsa_decode(blob, ctypes.c_size_t(len(blob)), ctypes.byref(adapter))
        return int(code), adapter

    def merge(self, blob: bytes, base: dict[int, np.ndarray]) -> dict[int, np.ndarray]:
        """Merge every delta of a good blob."""
        code, adapter = self.decode(blob)
        assert code == 0, (code, adapter.rule, adapter.where)
        need_count = self.library.etsa_scratch_count(ctypes.byref(adapter))
        scratch = np.zeros(need_count + 1, dtype=np.int64)
        delta, merged = CDelta(), {}
        while self.library.etsa_next(ctypes.byref(adapter), ctypes.byref(delta)):
            weights = np.ascontiguousarray(base[delta.tensor], dtype="<f4")
            out = np.empty_like(weights)
            pointers = (array.ctypes.data_as(ctypes.c_void_p) for array in (weights, out, scratch))
            code = self.library.etsa_merge(ctypes.byref(delta), *pointers, ctypes.c_size_t(need_count))
            assert code == 0
            merged[int(delta.tensor)] = out
        return merged
