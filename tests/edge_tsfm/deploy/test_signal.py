"""An adapter reaches only monitors that forecast what it is for."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.simulators.publisher import (
    BINDING,
    BUNDLE,
    adapter_blob,
    approve_version,
    evaluation,
    make_device,
    make_repository,
    write_json,
)

pytest.importorskip("tuf")

from device_runtime.errors import DeviceRuntimeError, SettingsError, SignalMismatchError
from device_runtime.format import blob as blobs
from device_runtime.format.binding import Binding
from device_runtime.monitor import installer_of
from device_runtime.update.disk import PosixDisk
from device_runtime.update.settings import read_config
from device_runtime.update.slots import Slots
from edge_tsfm.deploy.approve import approve
from edge_tsfm.deploy.ledger import describe, read_ring
from edge_tsfm.deploy.repository import Repository
from edge_tsfm.deploy.setup import device_settings
from edge_tsfm.errors import DeployError

HOUR = 3_600_000_000


def of(name: str = "MAP", interval_us: int = HOUR) -> Binding:
    return Binding.of(name, interval_us=interval_us, context_length=48, prediction_length=6)


def blob_for(binding: Binding | None) -> bytes:
    return blobs.encode(dataclasses.replace(blobs.decode(adapter_blob(1)), binding=binding))


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return make_repository(tmp_path)


@pytest.fixture
def offer(repository: Repository, tmp_path: Path) -> Callable[..., Any]:
    def run(binding: Binding | None, *, on: str = "icu", **data: str) -> Any:
        path = tmp_path / "offered.etsa"
        path.write_bytes(blob_for(binding))
        judged = evaluation()
        judged["data"] |= data
        return approve(
            repository, path, bundle=BUNDLE, ring=on,
            evaluation=write_json(tmp_path / "judged.json", judged), who="quality",
        )  # fmt: skip

    return run


@pytest.mark.parametrize(
    ("binding", "wanted"),
    [(of("HR"), "signal HR, want MAP|signal MAP, want HR"), (of(interval_us=60_000_000), "interval"), (None, "say")],
)
def test_an_adapter_for_something_else_is_not_approved(
    offer: Callable[..., Any], binding: Binding | None, wanted: str
) -> None:
    with pytest.raises((SignalMismatchError, DeployError), match=wanted):
        offer(binding)


@pytest.mark.parametrize("data", [{"channel": "HR"}, {"interval": "5min"}])
def test_an_evaluation_on_something_else_is_no_evidence(offer: Callable[..., Any], data: dict[str, str]) -> None:
    with pytest.raises(DeployError, match="ring icu is for MAP"):
        offer(of(), **data)


def test_nothing_is_approved_before_somebody_says_what_a_ring_forecasts(offer: Callable[..., Any]) -> None:
    with pytest.raises(DeployError, match="it is not set") as refusal:
        offer(of(), on="neonatal")
    assert "deploy ring" in str(refusal.value.hint)


def test_what_a_ring_forecasts_is_said_once(repository: Repository) -> None:
    assert describe(repository, "icu", signal="abpmean", interval="60min") == read_ring(repository, "icu")
    for changed in ({"signal": "HR", "interval": "1h"}, {"signal": "MAP", "interval": "5min"}):
        with pytest.raises(DeployError, match="does not change"):
            describe(repository, "icu", **changed)
    with pytest.raises(DeployError, match=r"mm\[Hg\]"):
        describe(repository, "new", signal="MAP", interval="1h", unit="kPa")


def test_a_monitors_settings_say_what_it_forecasts(repository: Repository, tmp_path: Path) -> None:
    text = device_settings(repository, ring="icu", device_id="bed", url="x")
    assert 'signal = "MAP"\nunit = "mm[Hg]"\ninterval = "1h"\n' in text
    config = make_device(tmp_path / "bed", repository, "bed")
    assert (config.use.signal, config.use.unit, config.use.interval_us) == ("MAP", "mm[Hg]", HOUR)
    with pytest.raises(DeployError, match="it is not set"):
        device_settings(repository, ring="neonatal", device_id="bed", url="x")


def with_settings(folder: Path, repository: Repository, **changes: str) -> Any:
    """A monitor whose settings differ in these lines; "" leaves one out."""
    make_device(folder, repository, "bed")
    path = folder / "device.toml"
    lines = [line for line in path.read_text().splitlines() if line.split(" ")[0] not in changes]
    path.write_text("\n".join(lines + [f"{key} = {value}" for key, value in changes.items() if value]) + "\n")
    return read_config(path)


@pytest.mark.parametrize(
    ("changes", "wanted"),
    [
        ({"signal": '"HR"', "unit": ""}, "signal HR, want MAP"),
        ({"interval": '"5min"'}, "interval 5min, want 1h"),
        ({"unit": '"kPa"'}, r"unit kPa, want mm\[Hg\]"),
        ({"signal": ""}, "settings leave it out"),
        ({"interval": ""}, "settings leave it out"),
    ],
)
def test_a_monitor_refuses_an_adapter_for_something_else(
    repository: Repository, tmp_path: Path, changes: dict[str, str], wanted: str
) -> None:
    signed = signed_blob(repository)
    config = with_settings(tmp_path / "bed", repository, **changes)
    slots = Slots(PosixDisk(config.state), device_id="bed")
    with pytest.raises(SignalMismatchError, match=wanted):
        installer_of(config).prove(slots, signed, "icu")
    assert slots.record.failed_sequence == -1


def test_a_person_may_accept_a_difference_and_every_forecast_says_so(repository: Repository, tmp_path: Path) -> None:
    signed = signed_blob(repository)
    config = with_settings(tmp_path / "bed", repository, interval='"5min"', accept_differences='["interval"]')
    installer = installer_of(config)
    installer.prove(Slots(PosixDisk(config.state), device_id="bed"), signed, "icu")
    forecast = installer.open(signed).forecast([80.0 + step % 5 for step in range(20)])
    assert (forecast.accepted_differences, forecast.binding) == (("interval",), BINDING)


@pytest.mark.parametrize(("key", "value"), [("accept_differences", '["everything"]'), ("interval", '"3600"')])
def test_settings_that_mean_nothing_are_refused(repository: Repository, tmp_path: Path, key: str, value: str) -> None:
    with pytest.raises(DeviceRuntimeError) as refusal:
        with_settings(tmp_path / "bed", repository, **{key: value})
    assert isinstance(refusal.value, SettingsError)
    assert value.strip('[]"') in str(refusal.value)


def signed_blob(repository: Repository) -> bytes:
    approval = approve_version(repository, 1)
    path = f"approved/icu/{approval.file}.etsa"
    return bytes(repository.target_bytes(repository.approved()[path]))
