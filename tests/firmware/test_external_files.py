"""A graph that opens a file which the manifest does not pin is refused, wherever that is said, in Python and C."""

from __future__ import annotations

import hashlib
import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from device_runtime.errors import DeviceRuntimeError, FormatError
from device_runtime.forecast.bundle import Bundle
from device_runtime.forecast.forecaster import Forecaster
from device_runtime.format import canonical
from device_runtime.format.onnx_files import external_files

from .samples import forecast

onnx = pytest.importorskip("onnx", reason="makes graphs with onnx")
DecodeError = pytest.importorskip("google.protobuf.message").DecodeError
Model = onnx.ModelProto


def outside(place: str = "elsewhere.bin") -> onnx.TensorProto:
    """A tensor that lies in another file."""
    tensor = onnx.TensorProto(name="far", data_type=onnx.TensorProto.FLOAT, dims=[1])
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=place)
    return tensor


def inner(tensor: onnx.TensorProto) -> onnx.GraphProto:
    graph = onnx.GraphProto(name="inner")
    graph.initializer.append(tensor)
    return graph


def node(**attributes: object) -> onnx.NodeProto:
    return onnx.helper.make_node("Odd", [], [], domain="odd", **attributes)


def add_node(model: Model, made: onnx.NodeProto) -> None:
    model.graph.node.append(made)


def sparse(tensor: onnx.TensorProto) -> onnx.SparseTensorProto:
    return onnx.SparseTensorProto(values=tensor, dims=[1])


def in_function(model: Model) -> None:
    model.functions.append(onnx.FunctionProto(name="f", domain="odd", node=[node(value=outside())]))


def in_training(model: Model) -> None:
    model.training_info.add().algorithm.initializer.append(outside())


WAYS: dict[str, Callable[[Model], object]] = {
    "an initializer": lambda m: m.graph.initializer.append(outside()),
    "a sparse initializer": lambda m: m.graph.sparse_initializer.append(sparse(outside())),
    "a node's tensor": lambda m: add_node(m, node(value=outside())),
    "a node's tensors": lambda m: add_node(m, node(values=[outside("forecast.onnx"), outside()])),
    "a node's sparse tensor": lambda m: add_node(m, node(value=sparse(outside()))),
    "a subgraph": lambda m: add_node(m, node(body=inner(outside()))),
    "the second of subgraphs": lambda m: add_node(m, node(bodies=[onnx.GraphProto(name="a"), inner(outside())])),
    "a subgraph of a subgraph": lambda m: add_node(
        m, node(body=onnx.GraphProto(name="b", node=[node(body=inner(outside()))]))
    ),
    "a function": in_function,
    "training information": in_training,
    "a path with a folder": lambda m: m.graph.initializer.append(outside("./tunable.safetensors")),
    "a path upwards": lambda m: m.graph.initializer.append(outside("../bundle/tunable.safetensors")),
    "the manifest": lambda m: m.graph.initializer.append(outside("bundle.json")),
    "memory": lambda m: m.graph.initializer.append(outside("*/_ORT_MEM_ADDR_/*")),
    "no name": lambda m: m.graph.initializer.append(outside("")),
}


def changed(bundle: Bundle, folder: Path, data: bytes) -> Path:
    """A copy of the bundle with another graph, pinned."""
    copy = folder / "bundle"
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(bundle.path, copy)
    (copy / "forecast.onnx").write_bytes(data)
    (copy / "elsewhere.bin").write_bytes(bytes(4))  # it is there, and would be opened
    manifest = json.loads((copy / "bundle.json").read_bytes())
    manifest["files"]["forecast.onnx"] = {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data)}
    (copy / "bundle.json").write_bytes(canonical.dumps(manifest))
    return copy


def refused_by_both(built: Path, library: Path, bundle: Path) -> str:
    """Both refuse it with code 100; return what C says."""
    with pytest.raises(FormatError) as error:
        Forecaster.open(bundle)
    assert error.value.code == 100
    code, out, err = forecast(built, library, bundle, stdin="1\n2\n3\n4\n")
    assert (code, out) == (1, "")
    assert "[100] FormatError: forecast.onnx: " in err
    return err


@pytest.mark.parametrize("way", WAYS)
def test_a_file_that_is_not_pinned_is_refused(
    built: Path, library: Path, bundle: Bundle, tmp_path: Path, way: str
) -> None:
    model = onnx.load(str(bundle.path / "forecast.onnx"), load_external_data=False)
    WAYS[way](model)
    said = refused_by_both(built, library, changed(bundle, tmp_path, model.SerializeToString()))
    assert "which is not among the manifest's files" in said


def text(field: int, data: bytes) -> bytes:
    """A field of bytes, its size in more digits than needed."""
    return bytes([field << 3 | 2, len(data) & 0x7F | 0x80, len(data) >> 7 & 0x7F | 0x80, 0]) + data


def test_odd_encodings_hide_nothing(built: Path, library: Path, bundle: Bundle, tmp_path: Path) -> None:
    """The value first, long sizes, a key that is said twice, the graph in two parts, as protobuf allows."""
    good = (bundle.path / "forecast.onnx").read_bytes()
    for entry in (
        text(2, b"elsewhere.bin") + text(1, b"location"),
        text(1, b"offset") + text(2, b"elsewhere.bin") + text(1, b"location"),
        text(1, b"location") + text(2, b"tunable.safetensors") + text(2, b"elsewhere.bin"),
        text(1, b"location") + text(2, b"elsewhere.bin") + text(2, b"tunable.safetensors"),
        text(1, b"location"),
    ):
        data = good + text(7, text(5, text(13, entry) + b"\x70\x01"))
        assert "which is not among the manifest's files" in refused_by_both(
            built, library, changed(bundle, tmp_path, data)
        )


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"\x3a\x7f\x00", "not a model"),
        (b"\x3b\x3c", "not a model"),
        (b"\xba\x80\x80\x80\x10" + b"\x00", "not a model"),  # a tag whose low 32 bits are a graph's
        (b"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", "not a model"),
        (b"\x08\x01\x00\x00ORTM", "ORT model"),
    ],
)
def test_what_is_no_graph_is_refused(
    built: Path, library: Path, bundle: Bundle, tmp_path: Path, data: bytes, said: str
) -> None:
    assert said in refused_by_both(built, library, changed(bundle, tmp_path, data))


def test_a_bottomless_graph_is_refused(built: Path, library: Path, bundle: Bundle, tmp_path: Path) -> None:
    data = b"location"
    for _ in range(400):
        data = text(1, text(5, text(6, data)))  # node, attribute, graph
    data = text(7, data)
    assert len(data) < 2**14
    assert "nested deeper" in refused_by_both(built, library, changed(bundle, tmp_path, data))


def test_places_are_those_that_onnx_finds(bundle: Bundle) -> None:
    """Of the real graph, and of mutants of it that still are protobuf: never fewer than onnx's own reader sees."""
    good = (bundle.path / "forecast.onnx").read_bytes()
    assert external_files(good, "x") == ["tunable.safetensors"] * 4
    draw = random.Random(3)
    compared = 0
    for _ in range(3_000):
        data = bytearray(good)
        for _ in range(draw.randint(1, 2)):
            data[draw.randrange(len(data))] = draw.choice(
                [0, 1, 0x0A, 0x2A, 0x3A, 0x6A, 0x7F, 0x80, draw.randrange(256)]
            )
        model = onnx.ModelProto()
        try:
            model.ParseFromString(bytes(data))
        except DecodeError:
            continue
        tensors = list(model.graph.initializer)
        values = [e.value for t in tensors for e in t.external_data if e.key == "location"]
        wanted = {v.decode("utf-8", "backslashreplace") if isinstance(v, bytes) else v for v in values}
        try:
            found = set(external_files(bytes(data), "x"))
        except DeviceRuntimeError:
            continue  # refused: nothing is opened
        assert wanted <= found
        compared += 1
    assert compared > 1_000
