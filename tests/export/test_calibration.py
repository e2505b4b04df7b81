import copy

import numpy as np

from device_runtime.forecast.bundle import Bundle
from device_runtime.forecast.forecaster import Forecaster
from device_runtime.forecast.quantiles import calibrate
from device_runtime.format.adapter import Calibration
from device_runtime.format.binding import Binding
from device_runtime.format.blob import decode
from device_runtime.format.delta import Dense, Numbers
from edge_tsfm.models import Base
from export import export_adapter, with_calibration
from export.contexts import synthetic_contexts

NAME = "output_patch_embedding.output_layer.bias"


def test_a_calibrated_blob_proves_the_same_merge_and_moves_forecasts_as_fitted(
    dummy: Base, float32_bundle: Bundle
) -> None:
    tuned = copy.deepcopy(dummy.model)
    dict(tuned.named_parameters())[NAME].data += 0.3
    size = len(float32_bundle.tensor(float32_bundle.index_of(NAME)))
    contexts = synthetic_contexts(4, 40, level=80.0, seed=9)
    plain = export_adapter(
        bundle=float32_bundle,
        base=dummy.model,
        tuned=tuned,
        deltas={NAME: Dense(Numbers.of(np.full((size, 1), 0.3)))},
        contexts=contexts,
        binding=Binding.of("HR", interval_us=3_600_000_000, context_length=2_048, prediction_length=1_024),
        version=1,
        metadata={},
    ).blob
    calibration = Calibration(offsets=Numbers.of(np.linspace(-0.5, 0.5, 54).reshape(9, 6), "int8"))
    blob = with_calibration(float32_bundle, plain, calibration)
    assert len(blob) == len(plain) + 32 + 4 + 54, "a record, a scale and 54 parameters of one byte"
    before, after = decode(plain), decode(blob)
    assert before.known_answer is not None
    assert after.known_answer is not None
    np.testing.assert_array_equal(before.known_answer.expected, after.known_answer.expected)
    forecasters = [Forecaster.open(float32_bundle, one) for one in (plain, blob)]
    assert forecasters[0].self_test() == forecasters[1].self_test(), "the test is of the merge, before calibration"
    forecasts = [one.forecast(contexts, 6).quantiles for one in forecasters]
    np.testing.assert_array_equal(forecasts[1], calibrate(forecasts[0], calibration))
    assert not np.array_equal(forecasts[0], forecasts[1])
