"""The C tokenizer of Chronos-T5 beside Python's: the same bins, tokens, masks and scales, and the same refusals."""

from __future__ import annotations

import ctypes
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from device_runtime.errors import FormatError
from device_runtime.forecast.families.tokenizer import Tokenizer
from device_runtime.format import canonical

from .conftest import SOURCE, need, run

PROBE = r"""
#include "tokenizer.h"
int encode(const uint8_t *manifest, size_t size, const float *context, size_t length, int64_t *tokens, float *observed,
           float *scale, float *values)
{
    static fc_base base;
    fc_message message;
    t5_tokenizer t = {0};
    etsa_err err = etsa_bundle_read(manifest, size, &base.bundle);
    if (err == ETSA_OK) err = t5_tokenizer_open(&base, &t, message);
    if (err == ETSA_OK) {
        *scale = t5_encode(&t, context, length, tokens, observed);
        for (uint32_t i = 0; i < t.tokens; i++) values[i] = t5_value(&t, i);
    }
    t5_tokenizer_close(&t);
    return (int)err;
}
"""
REAL = {
    "low_limit": -15.0, "high_limit": 15.0, "n_tokens": 4096, "n_special_tokens": 2,
    "pad_token_id": 0, "eos_token_id": 1, "use_eos_token": True,
}  # fmt: skip


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    need("cc")
    folder = tmp_path_factory.mktemp("tokenizer")
    probe, path = folder / "probe.c", folder / "libtokenizer.so"
    probe.write_text(PROBE)
    parts = SOURCE / "forecast_ort"
    sources = [path for path in parts.glob("*.c") if path.name != "main.c"]
    sources += [SOURCE / "etsa" / name for name in ("etsa.c", "etsa_learning.c", "etsa_sha256.c")]
    sources.append(SOURCE / "learn" / "etsa_learn.c")
    include = ["-I", SOURCE / "etsa", "-I", SOURCE / "learn", "-I", parts, "-I", SOURCE / "third_party" / "onnxruntime"]
    flags = ["-std=c99", "-O2", "-ffp-contract=off", "-shared", "-fPIC", *include, "-o", path]
    done = run("cc", *flags, probe, *sources, "-ldl", "-lm")
    assert done.returncode == 0, done.stderr
    return ctypes.CDLL(str(path))


Encode = Callable[[dict[str, Any], np.ndarray], tuple[int, np.ndarray, np.ndarray, float, np.ndarray]]


@pytest.fixture(scope="module")
def encode(compiled: ctypes.CDLL) -> Encode:
    template = json.loads((SOURCE / "sample_data" / "bundle" / "bundle.json").read_text())

    def call(parameters: dict[str, Any], context: np.ndarray) -> tuple[int, np.ndarray, np.ndarray, float, np.ndarray]:
        manifest = canonical.dumps({**template, "family": "chronos-t5", "parameters": parameters})
        size = len(context) + 1
        tokens, observed = np.full(size, -1, dtype=np.int64), np.full(size, -1, dtype=np.float32)
        values, scale = np.zeros(65_536, dtype=np.float32), ctypes.c_float()
        arrays = [array.ctypes.data_as(ctypes.c_void_p) for array in (context, tokens, observed, values)]
        code = compiled.encode(
            manifest, ctypes.c_size_t(len(manifest)), arrays[0], ctypes.c_size_t(len(context)), arrays[1], arrays[2],
            ctypes.byref(scale), arrays[3],
        )  # fmt: skip
        return code, tokens, observed, scale.value, values

    return call


def contexts() -> list[np.ndarray]:
    """Ordinary, missing, zero, far outside of the bins, and exactly on every boundary where the scale is 1."""
    draw = np.random.default_rng(3)
    nan = np.float32(np.nan)
    made = [
        (draw.normal(80, 12, 512) * np.where(draw.random(512) < 0.2, np.nan, 1)).astype(np.float32) for _ in range(20)
    ]
    made += [np.zeros(5, np.float32), np.array([nan, nan], np.float32), np.array([nan, 3, nan, -4], np.float32)]
    made += [np.array([1e-38, 1e30, -1e30, 1.0], np.float32), np.array([7], np.float32)]
    edges = Tokenizer.parse(REAL).boundaries[1:-1]
    around = np.concatenate([edges, np.nextafter(edges, np.float32(-99)), np.nextafter(edges, np.float32(99))])
    # A value of the size that makes the mean 1 exactly: zeros dilute the rest.
    for part in np.array_split(around, 40):
        total = float(np.abs(part).astype(np.float64).sum())
        made.append(
            np.concatenate([part, np.zeros(int(total) + 1 - len(part) if total > len(part) else 0, np.float32)])
        )
    return made


@pytest.mark.parametrize(
    "changes", [{}, {"use_eos_token": False}, {"n_tokens": 64, "low_limit": -0.3, "high_limit": 7.1}]
)
def test_tokens_masks_and_scales_are_those_of_python(encode: Encode, changes: dict[str, Any]) -> None:
    parameters = {**REAL, **changes}
    tokenizer = Tokenizer.parse(parameters)
    for context in contexts():
        code, tokens, observed, scale, values = encode(parameters, context)
        wanted, mask, scales = tokenizer.encode(context[None, :])
        count = wanted.shape[1]
        assert (code, scale) == (0, float(scales[0]))
        np.testing.assert_array_equal(tokens[:count], wanted[0])
        np.testing.assert_array_equal(observed[:count], mask[0])
        np.testing.assert_array_equal(values[: tokenizer.n_tokens], tokenizer.values)


@pytest.mark.parametrize(
    "changes",
    [
        {"n_tokens": 0}, {"n_tokens": 65_537}, {"n_tokens": 4}, {"n_tokens": 64.5}, {"n_special_tokens": -1},
        {"pad_token_id": 4096}, {"eos_token_id": "1"}, {"use_eos_token": 1}, {"low_limit": 15.0}, {"high_limit": True},
    ],
)  # fmt: skip
def test_parameters_that_cannot_be_are_refused_by_both(encode: Encode, changes: dict[str, Any]) -> None:
    parameters = {**REAL, **changes}
    with pytest.raises(FormatError):
        Tokenizer.parse(parameters)
    assert encode(parameters, np.ones(3, np.float32))[0] == FormatError.code
