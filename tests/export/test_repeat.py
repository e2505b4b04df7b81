"""Blocks written as copies of a traced one: the graph of a whole trace, with every weight where torch has it."""

import copy
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

torch = pytest.importorskip("torch")

from device_runtime.forecast.bundle import Bundle  # noqa: E402
from export import repeat  # noqa: E402
from export.base import export_base  # noqa: E402
from export.errors import ExportError  # noqa: E402
from export.folder import StoredTensors  # noqa: E402
from export.redraw import redrawn  # noqa: E402
from export.survey import SEEN, distance, survey  # noqa: E402
from export.wiring import runtime_response  # noqa: E402

PROVENANCE = {"source": "test", "licence": "none", "weights": "none"}


@pytest.fixture(scope="module")
def deep(exported: Any) -> Any:
    """The dummy Chronos-Bolt with five and four blocks."""
    base, _ = exported("chronos-bolt")
    config = copy.deepcopy(base.model.config)
    config.num_layers, config.num_decoder_layers = 5, 4
    torch.manual_seed(0)
    return type(base.model)(config).eval()


@pytest.fixture(scope="module")
def repeated(deep: Any, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    out = tmp_path_factory.mktemp("deep") / "repeated"
    export_base(deep, family="chronos-bolt", name="deep", out=out, provenance=PROVENANCE)
    return Bundle.open(out)


def graph_of(bundle: Bundle) -> onnx.GraphProto:
    return onnx.load(str(bundle.path / "forecast.onnx"), load_external_data=False).graph


def shape_of(graph: onnx.GraphProto) -> tuple[Counter[str], list[tuple[str, tuple[int, ...]]]]:
    """Count a graph's operators, and name its parameters: a trace's own constants are shared by the copies."""
    operators = Counter(node.op_type for node in graph.node)
    return operators, sorted((tensor.name, tuple(tensor.dims)) for tensor in graph.initializer if "." in tensor.name)


def test_the_graph_is_that_of_a_whole_trace(
    deep: Any, repeated: Bundle, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(repeat, "WHOLE", 99)
    export_base(deep, family="chronos-bolt", name="deep", out=tmp_path / "whole", provenance=PROVENANCE)
    whole = Bundle.open(tmp_path / "whole")
    assert shape_of(graph_of(repeated)) == shape_of(graph_of(whole))
    assert whole.manifest.tensors == repeated.manifest.tensors
    onnx.checker.check_model(str(repeated.path / "forecast.onnx"))


def test_every_tensor_of_the_copies_is_heard_alone(deep: Any, repeated: Bundle) -> None:
    """Each in turn stuck at the base's numbers while all others are drawn anew: unnoticed, it would be miswired."""
    from export.bolt import response

    numbers = StoredTensors(repeated.path, repeated.manifest.tensors)
    place, *_ = survey(deep, response, numbers, longest=repeated.manifest.context_length)
    copies = [name for name in numbers if name.split(".")[2] in {"2", "3", "4"} and ".block." in name]
    assert len(copies) > 40
    with redrawn(deep, numbers, place.seed) as drawn:
        for name in copies:
            stuck = {**drawn, name: torch.from_numpy(np.array(numbers[name]))}
            error = distance(runtime_response(repeated, stuck, place.context), place.response)
            assert error > SEEN * place.allowed, name


def test_blocks_of_another_make_are_all_traced(deep: Any) -> None:
    blocks = copy.deepcopy(deep.encoder.block)
    assert repeat.traced_blocks(blocks) == repeat.TRACED
    assert repeat.traced_blocks(blocks[:3]) == 3
    dense = blocks[4].layer[1].DenseReluDense.wi
    dense.bias = torch.nn.Parameter(torch.zeros(dense.out_features))
    assert repeat.traced_blocks(blocks) == 5


def test_a_block_that_computes_otherwise_is_refused(deep: Any, tmp_path: Path) -> None:
    """Of the same parameters, but another number in its code: the proof against torch finds it."""
    odd = copy.deepcopy(deep)
    odd.encoder.block[3].layer[0].layer_norm.variance_epsilon = 0.3
    with pytest.raises(ExportError, match="differs from torch"):
        export_base(odd, family="chronos-bolt", name="odd", out=tmp_path / "odd", provenance=PROVENANCE)
    assert not (tmp_path / "odd").exists()
