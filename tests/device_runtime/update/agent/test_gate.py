"""What the pinned gate refuses, and the evidence that it judges by."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path
from typing import Any

import pytest

from device_runtime.update.lifecycle import State
from edge_tsfm.deploy import rings
from edge_tsfm.errors import DataError, DeployError, GateRefusedError
from tests.simulators.monitor import Monitor
from tests.simulators.publisher import (
    BUNDLE,
    EVERYBODY,
    adapter_blob,
    approve_version,
    evaluation,
    write_json,
)


@pytest.mark.parametrize(
    ("figures", "why"),
    [
        (evaluation(1.0), "against the base"),
        (evaluation(0.9, high=0.02), "interval"),
        (evaluation(0.9, high=0.0), "interval"),  # an interval that ends at zero does not exclude it
        (evaluation(models={name: {"wql": {"value": None}} for name in ("adapter", "base")}), "against the base"),
        (evaluation(0.9, subgroups={"sex": {"f": {"patients": 30, "models": evaluation(1.2)["models"]}}}), "sex is f"),
    ],
)
def test_the_gate_refuses_and_records(monitor: Monitor, figures: dict[str, Any], why: str) -> None:
    with pytest.raises(GateRefusedError, match=why):
        approve_version(monitor.publisher(), 5, figures=figures)
    assert list((monitor.repository.folder / "records").glob("*-refused.html"))


@pytest.mark.parametrize("made", ["5", "5" * 15, "5" * 16 + "g", "", 5555555555555555, None])
def test_evidence_is_bound_by_no_fewer_digits_than_export_writes(
    monitor: Monitor, tmp_path: Path, made: object
) -> None:
    from device_runtime.format import blob as blobs
    from edge_tsfm.deploy.approve import approve

    adapter = blobs.decode(adapter_blob(5))
    path = tmp_path / "five.etsa"
    path.write_bytes(blobs.encode(dataclasses.replace(adapter, metadata={**adapter.metadata, "run": made})))
    judged = write_json(tmp_path / "e.json", evaluation())
    with pytest.raises(DeployError, match="exported from run"):
        approve(monitor.publisher(), path, bundle=BUNDLE, ring="icu", evaluation=judged, who="q")


def on_device(wql: float, **changes: str) -> dict[str, Any]:
    """An evaluation with what the device forecasts."""
    from device_runtime.forecast.bundle import Bundle

    facts = {"bundle": Bundle.open(BUNDLE).digest.hex(), "adapter": hashlib.sha256(adapter_blob(5)).hexdigest()}
    judged = evaluation(device=facts | changes)
    judged["models"]["device"] = {"wql": {"value": wql}}
    judged["adapter_minus_device"] = {"wql": {"value": 0.9 - wql, "low": 0.9 - wql - 0.005, "high": 0.9 - wql + 0.005}}
    return judged


def test_the_gate_judges_what_the_device_forecasts_where_it_was_scored(monitor: Monitor) -> None:
    with pytest.raises(GateRefusedError, match="against the base"):
        approve_version(monitor.publisher(), 5, figures=on_device(1.2))
    assert approve_version(monitor.publisher(), 5, figures=on_device(0.9)).version == 5


def test_a_gain_that_the_device_loses_is_none(monitor: Monitor) -> None:
    """Torch's interval lies below zero, the device's does not: its gain is a tenth of torch's."""
    figures = on_device(0.99)
    with pytest.raises(GateRefusedError, match="interval"):
        approve_version(monitor.publisher(), 5, figures=figures)
    (page,) = (monitor.repository.folder / "records").glob("*-refused.html")
    assert "what the device forecasts" in page.read_text()
    del figures["adapter_minus_device"]
    with pytest.raises(GateRefusedError, match="interval"):
        approve_version(monitor.publisher(), 5, figures=figures)


@pytest.mark.parametrize(
    "data",
    [
        {"split": "train", "trained_items": 0}, {"split": "validation", "trained_items": 0},
        {"split": "all", "trained_items": 3}, {"split": "test"}, {"trained_items": 0}, {},
    ],
)  # fmt: skip
def test_patients_that_training_saw_are_no_evidence(monitor: Monitor, data: Any) -> None:
    with pytest.raises(DeployError, match="says nothing about new ones") as error:
        approve_version(monitor.publisher(), 5, figures=evaluation(data=data))
    assert "test patients" in str(error.value.hint)


@pytest.mark.parametrize("figures", [{"device": {"adapter": 5}}, {"run": {"numbers": "5" * 64, "base": "x"}}])
def test_an_evaluation_of_other_things_is_refused_in_words(monitor: Monitor, figures: dict[str, Any]) -> None:
    with pytest.raises(DeployError):
        approve_version(monitor.publisher(), 5, figures=evaluation(**figures))


@pytest.mark.parametrize(
    ("figures", "says"),
    [
        ({"device": None}, "device: want a table, got null"), ({"device": []}, "device: want a table"),
        ({"device": "x"}, "device: want a table, got 'x'"), ({"run": None}, "run: want a table"),
        ({"data": "test"}, "data: want a table, got 'test'"), ({"data": None}, "data: want a table, got null"),
        ({"models": None}, "models: want a table, got null"), ({"models": 5}, "models: want a table, got 5"),
        ({"models": []}, "models: want a table"), ({"models": {"adapter": {}}}, "models: base is missing"),
        ({"models": {"adapter": {"wql": {"value": float("nan")}}, "base": {}}}, r"\[models.adapter.wql\] value: want"),
    ],
)  # fmt: skip
def test_an_evaluation_of_other_types_is_refused_with_its_place(
    monitor: Monitor, figures: dict[str, Any], says: str
) -> None:
    with pytest.raises(DataError, match=rf"evaluation\.json: {says}"):
        approve_version(monitor.publisher(), 5, figures=evaluation(**figures))


@pytest.mark.parametrize("what", ["bundle", "adapter"])
def test_another_files_forecasts_on_the_device_are_no_evidence(monitor: Monitor, what: str) -> None:
    with pytest.raises(DeployError, match=f"scored {what} 0000"):
        approve_version(monitor.publisher(), 5, figures=on_device(0.9, **{what: "0" * 64}))


def test_the_gate_wants_the_adapter_in_the_field(monitor: Monitor) -> None:
    from edge_tsfm.deploy.approve import approve

    path = monitor.folder / "five.etsa"
    path.write_bytes(adapter_blob(5))
    judged = write_json(monitor.folder / "e.json", evaluation())
    with pytest.raises(GateRefusedError, match="in the field"):
        approve(monitor.publisher(), path, bundle=BUNDLE, ring="icu", evaluation=judged, who="q")


def test_a_changed_gate_is_not_the_pinned_one(monitor: Monitor) -> None:
    gate = next((monitor.repository.folder / "gates").iterdir())
    gate.write_text(gate.read_text().replace("-1.0", "50.0"))
    with pytest.raises(DeployError, match="pins"):
        approve_version(monitor.publisher(), 5)


def test_what_devices_would_refuse_is_refused_here(monitor: Monitor) -> None:
    with pytest.raises(DeployError, match="version 1"):
        approve_version(monitor.publisher(), 1)
    (monitor.folder / "keys" / "quality-1.pem").rename(monitor.folder / "away.pem")
    with pytest.raises(DeployError, match="signed by 1/2 keys"):
        approve_version(monitor.publisher(), 6)


def test_fifty_adapters_go_into_bins_and_devices_follow(monitor: Monitor) -> None:
    from edge_tsfm.deploy import repository as module

    publisher = monitor.publisher()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "BINS_FROM", 4)
        approval = None
        for version in range(2, 6):
            approval = approve_version(publisher, version)
    assert approval is not None
    assert len(publisher.approved_roles()) == 32
    assert len(publisher.approved()) == 5
    rings.start(publisher, "icu", approval.file, EVERYBODY, who="ops")
    assert monitor.poll().sequence == 5
    assert monitor.slots.record.state is State.TRIAL
