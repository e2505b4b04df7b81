"""The proof of wiring: what it must catch in every tensor, and the models that it must not refuse."""

import copy
import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

torch = pytest.importorskip("torch")

from device_runtime.forecast.bundle import Bundle  # noqa: E402
from device_runtime.format import canonical  # noqa: E402
from device_runtime.format.manifest import MANIFEST_FILE  # noqa: E402
from export.base import export_base  # noqa: E402
from export.errors import ExportError  # noqa: E402
from export.families import find_family  # noqa: E402
from export.float64 import in_float64  # noqa: E402
from export.folder import StoredTensors, pinned_files  # noqa: E402
from export.redraw import redrawn  # noqa: E402
from export.survey import SEEN, Place, distance, survey, unheard  # noqa: E402
from export.wiring import check_wiring, runtime_response  # noqa: E402

PROVENANCE = {"source": "test", "licence": "none", "weights": "none"}
FAMILIES = ("chronos-bolt", "chronos-t5", "chronos-2")
Drawn = Mapping[str, torch.Tensor]


def surveyed(model: Any, bundle: Bundle) -> list[Place]:
    numbers = StoredTensors(bundle.path, bundle.manifest.tensors)
    return survey(model, find_family(bundle.manifest.family).response, numbers, longest=bundle.manifest.context_length)


def miswirings(bundle: Bundle, drawn: Drawn) -> Iterator[tuple[str, Drawn]]:
    """Every tensor in turn: stuck at the base's numbers, exchanged with one of its shape, turned round."""
    names = [entry.name for entry in bundle.manifest.tensors]
    for index, name in enumerate(names):
        yield f"{name} stuck", {name: torch.from_numpy(np.array(bundle.tensor(index)))}
        for twin in names[index + 1 :]:
            same_sum = name.endswith("output_layer.bias") and twin == name.replace("output_layer", "residual_layer")
            if drawn[twin].shape == drawn[name].shape and not same_sum:
                yield f"{name} exchanged", {name: drawn[twin], twin: drawn[name]}
                break
        if drawn[name].ndim == 2 and len(set(drawn[name].shape)) == 1:
            yield f"{name} turned", {name: drawn[name].T}


@pytest.mark.parametrize("family", FAMILIES)
def test_every_miswired_tensor_is_caught(exported: Any, family: str) -> None:
    base, bundle = exported(family)
    place, *_ = places = surveyed(base.model, bundle)
    check_wiring(base.model, bundle, places)
    numbers = StoredTensors(bundle.path, bundle.manifest.tensors)
    with redrawn(base.model, numbers, place.seed) as drawn:
        errors = {
            what: distance(runtime_response(bundle, {**drawn, **wrong}, place.context), place.response)
            for what, wrong in miswirings(bundle, drawn)
        }
    assert len(errors) > 1.5 * len(numbers)
    assert min(errors.values()) > SEEN * place.allowed, min(errors, key=errors.__getitem__)


def pinned_again(folder: Path) -> Bundle:
    """Open a bundle whose files were changed, as their exporter would have pinned them."""
    path = folder / MANIFEST_FILE
    manifest = json.loads(path.read_bytes())
    path.unlink()
    path.write_bytes(canonical.dumps({**manifest, "files": pinned_files(folder)}))
    return Bundle.open(folder)


def test_a_weight_that_the_graph_holds_itself_is_caught_and_named(exported: Any, tmp_path: Path) -> None:
    """What constant folding would do: the graph computes with a copy of the base's number, the replaced one idles."""
    base, bundle = exported("chronos-bolt")
    places = surveyed(base.model, bundle)
    for index in range(0, len(bundle.manifest.tensors), 6):
        folder = tmp_path / str(index)
        shutil.copytree(bundle.path, folder)
        name = bundle.manifest.tensors[index].name
        graph = onnx.load(str(folder / "forecast.onnx"), load_external_data=False)
        graph.graph.initializer.append(onnx.numpy_helper.from_array(np.array(bundle.tensor(index)), "kept"))
        for node in graph.graph.node:
            for place, used in enumerate(node.input):
                node.input[place] = "kept" if used == name else used
        # The tensor is still read, to no effect: else ONNX Runtime itself would refuse to replace it.
        graph.graph.node.append(onnx.helper.make_node("Identity", [name], ["idle"]))
        graph.graph.output.append(onnx.helper.make_empty_tensor_value_info("idle"))
        onnx.save_model(graph, str(folder / "forecast.onnx"))
        with pytest.raises(ExportError, match=f"it ignores {name}"):
            check_wiring(base.model, pinned_again(folder), places)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_model_of_transformers_own_initialisation_is_exported_whole(
    exported: Any, family: str, tmp_path: Path
) -> None:
    base, bundle = exported(family)
    for seed in (0, 1):
        torch.manual_seed(seed)
        model = type(base.model)(copy.deepcopy(base.model.config)).eval()
        made = export_base(model, family=family, name="new", out=tmp_path / str(seed), provenance=PROVENANCE)
        assert made.tensors == len(bundle.manifest.tensors)
        assert made.silent == ()


def shut_rectifiers(name: str, parameter: Any) -> None:
    if name.endswith("layer.2.layer_norm.weight"):
        parameter.zero_()


def weak_keys(name: str, parameter: Any) -> None:
    if name.endswith((".k.weight", ".q.weight")):
        parameter.mul_(1e-4)


def no_output(name: str, parameter: Any) -> None:
    if name.startswith("output_patch_embedding"):
        parameter.zero_()


def nothing(name: str, parameter: Any) -> None:
    if name != "shared.weight":
        parameter.zero_()


@pytest.mark.parametrize("change", [shut_rectifiers, weak_keys, no_output, nothing])
def test_what_a_base_leaves_unused_is_proven_all_the_same(
    exported: Any, change: Callable[[str, Any], None], tmp_path: Path
) -> None:
    base, bundle = exported("chronos-bolt")
    model = copy.deepcopy(base.model)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            change(name, parameter)
    before = {name: parameter.clone() for name, parameter in model.named_parameters()}
    made = export_base(model, family="chronos-bolt", name="odd", out=tmp_path / "odd", provenance=PROVENANCE)
    assert made.tensors == len(bundle.manifest.tensors)
    assert all(torch.equal(parameter, before[name]) for name, parameter in model.named_parameters())


def test_a_tensor_that_no_forecast_can_hear_stays_frozen_and_is_named(exported: Any, tmp_path: Path) -> None:
    """With a start token of zero, the decoder's first self-attention adds zero whatever its weights."""
    base, bundle = exported("chronos-bolt")
    model = copy.deepcopy(base.model)
    with torch.no_grad():
        model.shared.weight[model.config.decoder_start_token_id] = 0.0
    made = export_base(model, family="chronos-bolt", name="odd", out=tmp_path / "odd", provenance=PROVENANCE)
    first = "decoder.block.0.layer.0."
    silent = {f"{first}SelfAttention.v.weight", f"{first}SelfAttention.o.weight", f"{first}layer_norm.weight"}
    assert silent <= set(made.silent)
    tunable = {entry.name for entry in Bundle.open(made.path).manifest.tensors}
    assert tunable | set(made.silent) == {entry.name for entry in bundle.manifest.tensors}
    assert not tunable & set(made.silent)
    manifest = json.loads((made.path / "bundle.json").read_text())
    assert set(made.silent) <= set(manifest["dead"])
    graph = onnx.load(str(made.path / "forecast.onnx"), load_external_data=False)
    held = {tensor.name: tensor for tensor in graph.graph.initializer}
    for name in made.silent:
        np.testing.assert_array_equal(onnx.numpy_helper.to_array(held[name]), model.get_parameter(name).numpy())


def test_a_silent_tensor_in_the_table_is_refused(exported: Any) -> None:
    base, bundle = exported("chronos-bolt")
    places = surveyed(base.model, bundle)
    name = bundle.manifest.tensors[3].name
    for place in places:
        place.moves[name] = 1e-9  # type: ignore[index]
    assert unheard(places, [name]) == [name]
    with pytest.raises(ExportError, match="it may not be wired"):
        check_wiring(base.model, bundle, places)


def test_float64_reaches_what_computes_in_float32_by_name(exported: Any) -> None:
    """Beside `double()`, which leaves norms and scaling in float32: the judge's own rounding is of float64's size."""
    a = torch.tensor([1.0, 2.0**-30])
    with in_float64():
        assert float(a.to(torch.float32).sum() - 1) == 2.0**-30
        assert torch.zeros(1, dtype=torch.float32).add(a[1]).dtype == torch.float64
