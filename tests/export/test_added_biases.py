"""Bundles with zero biases where a family has none: the same base, and adapters that only such a bundle takes."""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from device_runtime.forecast.bundle import Bundle  # noqa: E402
from device_runtime.forecast.forecaster import Forecaster  # noqa: E402
from device_runtime.format.binding import Binding  # noqa: E402
from device_runtime.format.blob import decode  # noqa: E402
from device_runtime.format.delta import Delta, Dense, Numbers  # noqa: E402
from edge_tsfm.methods.sites import touched_tensors  # noqa: E402
from edge_tsfm.models import Base  # noqa: E402
from export import ExportError, export_adapter, export_base, export_optimum, export_precision  # noqa: E402
from export.contexts import synthetic_contexts  # noqa: E402
from export.parity import difference, runtime_witness  # noqa: E402
from tests.support.rounding import ANY_ORDER, FACTOR, assert_near, noise  # noqa: E402

FAMILIES = ["chronos-bolt", "chronos-t5", "chronos-2"]
Exported = Callable[..., tuple[Base, Bundle]]


def added(base: Base, plain: Base) -> list[str]:
    own = {name for name, _ in plain.model.named_parameters()}
    return [name for name, _ in base.model.named_parameters() if name not in own]


def deltas_on(base: Base, names: list[str], size: float = 0.2) -> dict[str, Delta]:
    draw = np.random.default_rng(4)
    shapes = dict(base.model.named_parameters())
    return {name: Dense(Numbers.of(size * draw.normal(size=(len(shapes[name]), 1)))) for name in names}


def tuned(base: Base, deltas: dict[str, Delta]) -> Any:
    model = copy.deepcopy(base.model)
    parameters = dict(model.named_parameters())
    with torch.no_grad():
        for name, delta in deltas.items():
            parameters[name].add_(torch.from_numpy(delta.dense()[:, 0]).float())
    return model


@pytest.mark.parametrize("family", FAMILIES)
def test_the_base_is_the_same_and_its_biases_are_tunable_zeros(exported: Exported, family: str) -> None:
    plain, without = exported(family)
    base, bundle = exported(family, added_biases=True)
    names = added(base, plain)
    table = {entry.name for entry in bundle.manifest.tensors}
    assert set(names) == table - {entry.name for entry in without.manifest.tensors}
    assert all(not bundle.tensor(bundle.index_of(name)).any() for name in names)
    assert bundle.digest != without.digest
    dead = [json.loads((one.path / "bundle.json").read_text())["dead"] for one in (bundle, without)]
    assert dead[0] == dead[1]
    context = synthetic_contexts(4, 48, missing=0.2, seed=3)
    ours, plainly = runtime_witness(bundle, {}, context), runtime_witness(without, {}, context)
    assert_near(ours, plainly, noise(lambda one: runtime_witness(without, {}, one), context))


@pytest.mark.parametrize("family", FAMILIES)
def test_keys_have_none_where_softmax_would_not_see_it(exported: Exported, family: str) -> None:
    names = added(exported(family, added_biases=True)[0], exported(family)[0])
    keys = [name for name in names if name.endswith(".k.bias")]
    # Rotary positions turn Chronos-2's keys after the bias is added: there it matters.
    assert bool(keys) == (family == "chronos-2")
    assert any(name.endswith(".v.bias") for name in names)
    assert any(name.endswith(".wi.bias") for name in names)


@pytest.mark.parametrize("family", FAMILIES)
def test_an_adapter_of_added_biases_reaches_the_device(exported: Exported, family: str) -> None:
    base, bundle = exported(family, added_biases=True)
    deltas = deltas_on(base, added(base, exported(family)[0]))
    result = export_adapter(
        bundle=bundle, base=base.model, tuned=tuned(base, deltas), deltas=deltas,
        contexts=synthetic_contexts(8, 48, missing=0.1, seed=5), version=1, metadata={},
        binding=Binding.of("HR", interval_us=3_600_000_000, context_length=2_048, prediction_length=1_024),
    )  # fmt: skip
    assert result.parity <= FACTOR * result.parity_float32 + ANY_ORDER
    assert result.effect > 0.01
    assert set(decode(result.blob).deltas) == {bundle.index_of(name) for name in deltas}
    assert Forecaster.open(bundle, result.blob).self_test() >= 0


def test_a_bundle_without_them_says_how_to_get_one(exported: Exported) -> None:
    plain, bundle = exported("chronos-t5")
    base, _ = exported("chronos-t5", added_biases=True)
    deltas = deltas_on(base, added(base, plain)[:2])
    with pytest.raises(ExportError, match=r"no tunable tensor '.*\.bias' and 1 others") as caught:
        export_adapter(
            bundle=bundle, base=base.model, tuned=tuned(base, deltas), deltas=deltas,
            contexts=synthetic_contexts(8, 48, seed=5), version=1, metadata={},
            binding=Binding.of("HR", interval_us=3_600_000_000, context_length=2_048, prediction_length=1_024),
        )  # fmt: skip
    assert "export base --added-biases" in str(caught.value.hint)


def test_optimum_has_no_room_for_them_and_says_so(exported: Exported, tmp_path: Path) -> None:
    pytest.importorskip("optimum.exporters.onnx")
    plain, _ = exported("chronos-t5")
    base, _ = exported("chronos-t5", added_biases=True)
    deltas = deltas_on(base, added(base, plain)[:1])
    with pytest.raises(ExportError, match="to merge into") as caught:
        export_optimum(plain.model, family="chronos-t5", out=tmp_path / "o", provenance={}, deltas=deltas)
    assert "--biases native" in str(caught.value.hint)


@pytest.mark.parametrize("family", ["chronos-bolt", "chronos-t5", "chronos-2"])
def test_a_bias_in_the_wrong_place_is_refused(
    exported: Exported, family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The joined product of q, k and v adds a joined bias: parity sees one that arrives elsewhere."""
    base, _ = exported(family, added_biases=True)

    def swapped(attention: Any, x: Any) -> Any:
        layers = (attention.q, attention.k, attention.v)
        product = torch.nn.functional.linear(x, torch.cat([layer.weight for layer in layers]))
        zeros = torch.zeros(attention.k.out_features)
        return product + torch.cat([attention.v.bias, zeros, attention.q.bias])

    for module in ("layers", "t5_graphs", "chronos2"):
        monkeypatch.setattr(f"export.{module}.joined_projections", swapped)
    provenance = {"source": "test", "weights": base.digest, "licence": "none"}
    with pytest.raises(ExportError, match="redrawn at random, the runtime differs"):
        export_base(base.model, family=family, name="dummy", out=tmp_path / "b", provenance=provenance)


@pytest.mark.parametrize("family", ["chronos-bolt", "chronos-2"])
@pytest.mark.parametrize("precision", ["int8", "float16"])
def test_they_stay_float32_beside_small_weights(
    exported: Exported, family: str, precision: str, tmp_path: Path
) -> None:
    base, source = exported(family, added_biases=True)
    kept = touched_tensors(base.model, ["bitfit"])
    assert set(added(base, exported(family)[0])) <= set(kept)
    result = export_precision(source, out=tmp_path / "small", precision=precision, adapted=kept, allowed=0.05)
    small = Bundle.open(result.path)
    assert [entry.name for entry in small.manifest.tensors] == kept
    moved = {small.index_of(name): 0.1 * np.ones_like(small.tensor(small.index_of(name))) for name in kept}
    wanted = {source.index_of(name): moved[small.index_of(name)] for name in kept}
    context = synthetic_contexts(4, 48, seed=3)
    assert difference(runtime_witness(small, moved, context), runtime_witness(source, wanted, context), context) < 0.2
