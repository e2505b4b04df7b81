"""A small bundle and an adapter for it, made without torch."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np

from device_runtime.forecast.bundle import Bundle
from device_runtime.forecast.forecaster import Forecaster
from device_runtime.format import canonical
from device_runtime.format.adapter import Adapter, Calibration, KnownAnswer
from device_runtime.format.binding import Binding
from device_runtime.format.blob import encode
from device_runtime.format.delta import Dense, Fourier, LowRank, Numbers, Vera

LEVELS, STEPS, PATCH, CONTEXT = 3, 8, 4, 32


def make_bundle(folder: Path) -> Bundle:
    """Write a bundle whose model is two layers on the last patch: enough to see every tensor in the forecast."""
    draw = np.random.default_rng(7)
    hidden, out = 6, LEVELS * STEPS
    weights = {
        "hidden.weight": draw.normal(size=(hidden, PATCH)) * 0.3,
        "hidden.bias": draw.normal(size=hidden) * 0.1,
        "output.weight": draw.normal(size=(out, hidden)) * 0.3,
        "output.bias": draw.normal(size=out) * 0.1,
    }
    arrays = {name: array.astype("<f4") for name, array in weights.items()}
    offsets = _write_tensors(folder / "tunable.safetensors", arrays)
    (folder / "forecast.onnx").write_bytes(_model(arrays, offsets))
    files = {
        path.name: {"sha256": hashlib.sha256(path.read_bytes()).hexdigest(), "size": path.stat().st_size}
        for path in sorted(folder.iterdir())
    }
    table = [{"name": n, "offset": offsets[n], "shape": list(array.shape)} for n, array in arrays.items()]
    manifest = {
        "base": {"source": "made by a test"}, "context_length": CONTEXT, "dead": [], "family": "chronos-bolt",
        "files": files, "format": "edge-tsfm bundle", "format_version": 1,
        "graphs": {"forecast": {"file": "forecast.onnx", "tensors": [0, 1, 2, 3]}}, "name": "dummy",
        "parameters": {"patch_size": PATCH}, "precision": "float32", "prediction_length": STEPS,
        "quantile_levels": [0.1, 0.5, 0.9], "tensors": table, "tools": {},
    }  # fmt: skip
    (folder / "bundle.json").write_bytes(canonical.dumps(manifest))
    return Bundle.open(folder)


def _write_tensors(path: Path, arrays: dict[str, np.ndarray]) -> dict[str, int]:
    """Write a safetensors file; return where each tensor's data start."""
    head, position = {}, 0
    for name, array in arrays.items():
        end = position + array.nbytes
        head[name] = {"dtype": "F32", "shape": list(array.shape), "data_offsets": [position, end]}
        position = end
    text = json.dumps(head).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(len(text).to_bytes(8, "little") + text + b"".join(a.tobytes() for a in arrays.values()))
    return {name: 8 + len(text) + head[name]["data_offsets"][0] for name in arrays}


def _model(arrays: dict[str, np.ndarray], offsets: dict[str, int]) -> bytes:
    """Make the graph: the last patch, missing values as zero, through two layers."""
    from onnx import TensorProto, helper, numpy_helper

    external = []
    for name, array in arrays.items():
        tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=array.shape)
        tensor.data_location = TensorProto.EXTERNAL
        place = {"location": "tunable.safetensors", "offset": str(offsets[name]), "length": str(array.nbytes)}
        for key, value in place.items():
            tensor.external_data.add(key=key, value=value)
        external.append(tensor)
    constants = {"start": [-PATCH], "end": [2**31 - 1], "axis": [1], "shape": [-1, LEVELS, STEPS]}
    fixed = [numpy_helper.from_array(np.array(value, dtype=np.int64), key) for key, value in constants.items()]
    fixed += [
        numpy_helper.from_array(np.float32(0), "zero"),
        numpy_helper.from_array(np.float32(100), "hundred"),
    ]
    nodes = [
        helper.make_node("Slice", ["context", "start", "end", "axis"], ["last"]),
        helper.make_node("IsNaN", ["last"], ["missing"]),
        helper.make_node("Where", ["missing", "zero", "last"], ["filled"]),
        helper.make_node("Div", ["filled", "hundred"], ["scaled"]),
        helper.make_node("Gemm", ["scaled", "hidden.weight", "hidden.bias"], ["h"], transB=1),
        helper.make_node("Tanh", ["h"], ["t"]),
        helper.make_node("Gemm", ["t", "output.weight", "output.bias"], ["flat"], transB=1),
        helper.make_node("Mul", ["flat", "hundred"], ["wide"]),
        helper.make_node("Reshape", ["wide", "shape"], ["quantiles"]),
    ]
    graph = helper.make_graph(
        nodes,
        "dummy",
        [helper.make_tensor_value_info("context", TensorProto.FLOAT, ["batch", "length"])],
        [helper.make_tensor_value_info("quantiles", TensorProto.FLOAT, ["batch", LEVELS, STEPS])],
        [*external, *fixed],
    )
    opset = [helper.make_opsetid("", 18)]
    return bytes(helper.make_model(graph, opset_imports=opset, ir_version=9).SerializeToString())


def bind(name: str = "MAP", *, interval_us: int = 3_600_000_000, context: int = CONTEXT, steps: int = STEPS) -> Binding:
    """What an adapter of the dummy bundle is for: the whole of the base's lengths unless said otherwise."""
    return Binding.of(name, interval_us=interval_us, context_length=context, prediction_length=steps)


def make_adapter(
    bundle: Bundle, *, seed: int = 1, version: int = 3, tolerance: float = 1e-3, binding: Binding | None = None
) -> Adapter:
    """An adapter of four kinds on the dummy bundle, with a calibration and the right known answer.

    Without ``binding`` it is one of format 1, unbound.
    """
    draw = np.random.default_rng(seed)

    def numbers(*shape: int) -> Numbers:
        return Numbers.of(draw.normal(size=shape) * 0.05)

    shapes = [entry.rows_columns for entry in bundle.manifest.tensors]
    deltas = {
        0: Fourier(rows=shapes[0][0], columns=shapes[0][1], coefficients=numbers(8), scaling=100.0, seed=seed),
        1: Dense(numbers(*shapes[1])),
        2: LowRank(a=numbers(2, shapes[2][1]), b=numbers(shapes[2][0], 2), scaling=8.0),
        3: Vera(d=numbers(4), b=numbers(shapes[3][0]), columns=1, seed=seed, scaling=4.0),
    }
    bare = Adapter(base_digest=bundle.digest, version=version, deltas=deltas)
    context = (70 + 10 * np.sin(np.arange(20) / 3)).astype(np.float32)
    merged = Forecaster.open(bundle, encode(bare), allow_unproven=True)
    expected = merged._model.probe(context, 2 * LEVELS)  # what the model itself says, before any order or calibration
    return Adapter(
        base_digest=bundle.digest,
        version=version,
        deltas=deltas,
        known_answer=KnownAnswer(context=context, expected=expected, tolerance=float(np.float32(tolerance))),
        calibration=Calibration(offsets=numbers(LEVELS, 2)),
        binding=binding,
    )
