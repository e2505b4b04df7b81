"""What a monitor reports of its forecasts is what ``evaluate`` says of the same windows."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_tsfm.data import Series, read_dataset
from tests.simulators.publisher import BUNDLE, adapter_blob
from tests.support import streamed

QUICK = "[health]\nseconds = 0\nmin_forecasts = 1\nlatency_budget = 60\n"
FIGURES = ("wql", "mase", "coverage")


@pytest.fixture(scope="module")
def patients(reference_data: Path) -> list[Series]:
    dataset = read_dataset(reference_data / "physionet2019_hospital_a.parquet", target="MAP")
    return [one for one in dataset.series if one.split == "test" and np.isfinite(one.target).sum() > streamed.DROPPED]


def compare(folder: Path, bundle: Path, blob: bytes, series: list[Series]) -> dict[str, Any]:
    """Stream patients on a monitor and hold its figures against ``evaluate``'s."""
    config = streamed.install(folder / "bed", bundle, blob, QUICK)
    answers = streamed.stream(config, streamed.lines(series))
    scored = streamed.windows(series)
    assert sum("quantiles" in answer for answer in answers) == len(scored)
    (runs,) = streamed.quality(config)["signals"]["MAP"]
    beside = runs["against"]["base"]
    whole, shadowed = (
        streamed.evaluated(bundle, blob, scored),
        streamed.evaluated(bundle, blob, scored.keep(every(scored))),
    )
    assert runs["steps"] == np.isfinite(scored.target).sum()
    for figure in FIGURES:
        assert runs[figure] == pytest.approx(whole["adapter"][figure], rel=1e-6), figure
        assert beside["runs"][figure] == pytest.approx(shadowed["adapter"][figure], rel=1e-6), figure
        assert beside["other"][figure] == pytest.approx(shadowed["base"][figure], rel=1e-6), figure
    share = np.isnan(scored.target).mean()
    assert runs["missing"] == pytest.approx(float(share), rel=1e-9)
    return runs


def every(scored: Any) -> np.ndarray:
    return np.arange(0, len(scored), 4)


def test_hospital_a_streamed_scores_as_evaluate_does(patients: list[Series], tmp_path: Path) -> None:
    runs = compare(tmp_path, BUNDLE, adapter_blob(1), patients[:60])
    assert runs["steps"] > 5_000


@pytest.mark.slow
def test_a_ward_adapter_streamed_scores_as_evaluate_does(
    patients: list[Series], reference_data: Path, tmp_path: Path
) -> None:
    data = str(reference_data / "physionet2019_hospital_a.parquet")
    tool = [*streamed.DEVICE[:2], "edge_tsfm.cli"]
    run, bundle, blob = tmp_path / "run", tmp_path / "bundle", tmp_path / "map.etsa"
    for command in (
        ["train", data, "--target", "MAP", "--steps", "100", "--batch-size", "64", "--out", run, "--force", "--quiet"],
        ["export", "base", "--out", bundle],
        ["export", "adapter", run, "--bundle", bundle, "--out", blob],
    ):
        subprocess.run([*tool, *map(str, command)], check=True, capture_output=True)
    compare(tmp_path, bundle, blob.read_bytes(), patients[:300])
