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
size_t bundle_size(void) { return sizeof(etsa_bundle); }
#include "etsa_ed25519.h"
etsa_err verify(const uint8_t *message, uint32_t size, const uint8_t *signatures, size_t signatures_size,
                const uint8_t *key)
{
    return etsa_verify(message, size, signatures, signatures_size, key, etsa_ed25519_verify);
}
"""
PREFIX = b"edge-tsfm adapter v1\0"


class Text(ctypes.Structure):
    _fields_ = [("at", ctypes.c_void_p), ("size", ctypes.c_uint32)]

    def bytes(self) -> bytes:
        """The text; valid while what it points into is."""
        return ctypes.string_at(self.at, self.size) if self.size else b""


class CTensor(ctypes.Structure):
    _fields_ = [
        ("name", Text),
        ("rows", ctypes.c_uint32),
        ("columns", ctypes.c_uint32),
        ("dimensions", ctypes.c_uint32),
        ("offset", ctypes.c_uint32),
        ("quantised", ctypes.c_bool),
    ]


class CFile(ctypes.Structure):
    _fields_ = [("name", Text), ("size", ctypes.c_uint64), ("sha256", ctypes.c_uint8 * 32)]


class CGraph(ctypes.Structure):
    _fields_ = [("file", Text), ("tensors", Text)]


class CUse(ctypes.Structure):
    _fields_ = [
        ("signal", ctypes.c_char_p),
        ("unit", ctypes.c_char_p),
        ("interval_us", ctypes.c_uint64),
        ("context_length", ctypes.c_uint32),
        ("prediction_length", ctypes.c_uint32),
    ]


class CBundle(ctypes.Structure):
    _fields_ = [
        ("digest", ctypes.c_uint8 * 32),
        ("name", Text),
        ("family", Text),
        ("precision", Text),
        ("context_length", ctypes.c_uint32),
        ("prediction_length", ctypes.c_uint32),
        ("level_count", ctypes.c_uint32),
        ("tensor_count", ctypes.c_uint32),
        ("file_count", ctypes.c_uint32),
        ("quantised", ctypes.c_bool),
        ("levels", Text),
        ("tensors", Text),
        ("files", Text),
        ("graphs", Text),
        ("parameters", Text),
        ("context_size", ctypes.c_uint32),
        ("expected_size", ctypes.c_uint32),
        ("tolerance", ctypes.c_double),
        ("context", Text),
        ("expected", Text),
    ]


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
        vendored = SOURCE / "third_party" / "monocypher"
        sources = [SOURCE / "etsa" / name for name in ("etsa.c", "etsa_sha256.c", "etsa_monocypher.c")]
        sources += [vendored / "monocypher.c", vendored / "monocypher-ed25519.c", probe]
        flags = ["-std=c99", "-O2", "-shared", "-fPIC", "-I", SOURCE / "etsa", "-isystem", vendored, "-o", path]
        done = run("cc", *flags, *sources)
        assert done.returncode == 0, done.stderr
        self.library = ctypes.CDLL(str(path))
        for name in ("etsa_scratch_count", "adapter_size", "delta_size", "bundle_size"):
            getattr(self.library, name).restype = ctypes.c_size_t
        for name in (
            "etsa_next", "etsa_bundle_file", "etsa_bundle_graph", "etsa_graph_uses", "etsa_bundle_parameter",
            "etsa_bundle_count", "etsa_bundle_flag", "etsa_bundle_known_answer",
        ):  # fmt: skip
            getattr(self.library, name).restype = ctypes.c_bool
        self.library.etsa_widest_tolerance.restype = ctypes.c_double
        assert self.library.adapter_size() == ctypes.sizeof(CAdapter)
        assert self.library.delta_size() == ctypes.sizeof(CDelta)
        assert self.library.bundle_size() == ctypes.sizeof(CBundle)

    def decode(self, blob: bytes) -> tuple[int, CAdapter]:
        """Return the code and the adapter, whose ``rule`` says what refused. Keep ``blob`` alive."""
        adapter = CAdapter()
        code = self.library.etsa_decode(blob, ctypes.c_size_t(len(blob)), ctypes.byref(adapter))
        return int(code), adapter

    def is_for(self, adapter: CAdapter, use: CUse, accepted: int) -> tuple[int, int]:
        """Return the code and all differences, as bits."""
        found = ctypes.c_uint32()
        code = self.library.etsa_is_for(ctypes.byref(adapter), ctypes.byref(use), accepted, ctypes.byref(found))
        return int(code), int(found.value)

    def bundle(self, manifest: bytes) -> tuple[int, CBundle]:
        """Return the code and the bundle. Keep ``manifest`` alive."""
        bundle = CBundle()
        code = self.library.etsa_bundle_read(manifest, ctypes.c_size_t(len(manifest)), ctypes.byref(bundle))
        return int(code), bundle

    def verify(self, data: bytes, key: bytes) -> int:
        """Return the code of a blob and its signatures, by the vendored verifier."""
        size = ctypes.c_uint32()
        code = int(self.library.etsa_blob_size(data, ctypes.c_size_t(len(data)), ctypes.byref(size)))
        if code:
            return code
        blob, signatures = data[: size.value], data[size.value :]
        return int(self.library.verify(PREFIX + blob, size, signatures, ctypes.c_size_t(len(signatures)), key))

    def quantise(self, weights: np.ndarray) -> tuple[int, np.ndarray, np.ndarray]:
        """Return the code, integers ``[M, N]`` and scales ``[M]``."""
        weights = np.ascontiguousarray(weights, dtype=np.float32)
        integers, scales = np.empty(weights.shape, dtype=np.int8), np.empty(len(weights), dtype=np.float32)
        pointers = (array.ctypes.data_as(ctypes.c_void_p) for array in (integers, scales))
        code = self.library.etsa_quantise(weights.ctypes.data_as(ctypes.c_void_p), *weights.shape, *pointers)
        return int(code), integers, scales

    def widen(self, halves: np.ndarray) -> np.ndarray:
        """Return float16 numbers ``[n]`` as float32."""
        floats = np.empty(len(halves), dtype="<f4")
        pointers = [array.ctypes.data_as(ctypes.c_void_p) for array in (np.ascontiguousarray(halves, "<f2"), floats)]
        self.library.etsa_widen(pointers[0], ctypes.c_size_t(len(halves)), pointers[1])
        return floats

    def merge(
        self, blob: bytes, base: dict[int, np.ndarray], *, may_refuse: bool = False
    ) -> dict[int, np.ndarray | None]:
        """Merge every delta of a good blob; None where a weight would not be finite and ``may_refuse`` allows that."""
        code, adapter = self.decode(blob)
        assert code == 0, (code, adapter.rule, adapter.where)
        need_count = self.library.etsa_scratch_count(ctypes.byref(adapter))
        scratch = np.zeros(need_count + 1, dtype=np.int64)
        delta, merged = CDelta(), {}  # type: tuple[CDelta, dict[int, np.ndarray | None]]
        while self.library.etsa_next(ctypes.byref(adapter), ctypes.byref(delta)):
            weights = np.ascontiguousarray(base[delta.tensor], dtype="<f4")
            out = np.empty_like(weights)
            pointers = (array.ctypes.data_as(ctypes.c_void_p) for array in (weights, out, scratch))
            code = self.library.etsa_merge(ctypes.byref(delta), *pointers, ctypes.c_size_t(need_count))
            assert code == 0 or (may_refuse and code == 310), code
            merged[int(delta.tensor)] = None if code else out
        return merged
