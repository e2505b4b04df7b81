"""Chronos-2 from torch to the device, each series alone."""

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from device_runtime.bundle import Bundle  # noqa: E402
from device_runtime.errors import InputError  # noqa: E402
from device_runtime.forecaster import Forecaster  # noqa: E402
from edge_tsfm.methods.sites import touched_tensors  # noqa: E402
from export import export_precision  # noqa: E402
from export.contexts import synthetic_contexts  # noqa: E402


@pytest.mark.parametrize(("length", "steps"), [(1, 1), (7, 8), (20, 9), (64, 32), (71, 17)])
def test_quantiles_are_those_of_the_pipeline(exported, length: int, steps: int) -> None:
    from chronos import Chronos2Pipeline

    base, bundle = exported("chronos-2")
    context = synthetic_contexts(3, length, missing=0.3, seed=length)
    pipeline = Chronos2Pipeline(base.model)
    expected = np.stack(
        [q[0].numpy() for q in pipeline.predict(torch.from_numpy(context)[:, None], steps)]
    )  # [B, Q, H]
    forecast = Forecaster.open(bundle).forecast(context, steps)
    np.testing.assert_allclose(forecast.quantiles, expected.transpose(0, 2, 1), rtol=2e-4, atol=2e-3)


def test_group_attention_of_a_series_alone_has_no_q_and_k(exported) -> None:
    _, bundle = exported("chronos-2")
    names = {entry.name for entry in bundle.manifest.tensors}
    assert "encoder.block.0.layer.1.self_attention.v.weight" in names
    assert not any(".layer.1.self_attention.q." in name or ".layer.1.self_attention.k." in name for name in names)


def test_beyond_its_own_length_it_refuses(exported) -> None:
    with pytest.raises(InputError, match="reaches at most 32 steps"):
        Forecaster.open(exported("chronos-2")[1]).forecast(synthetic_contexts(1, 20)[0], 33)


def test_it_does_not_sample(exported) -> None:
    with pytest.raises(InputError, match="does not sample"):
        Forecaster.open(exported("chronos-2")[1]).sample(synthetic_contexts(1, 20)[0], 4)


def test_in_int8_what_adapters_touch_stays_and_forecasts_move_a_little(exported, tmp_path: Path) -> None:
    base, bundle = exported("chronos-2")
    kept = touched_tensors(base.model, ["bitfit"])
    stored = export_precision(bundle, out=tmp_path / "int8", precision="int8", adapted=kept)
    reduced = Bundle.open(stored.path)
    assert [entry.name for entry in reduced.manifest.tensors] == kept
    assert 0 < stored.synthetic.mean <= stored.allowed
    forecast = Forecaster.open(reduced).forecast(synthetic_contexts(2, 40), 12)
    assert forecast.base == stored.digest
