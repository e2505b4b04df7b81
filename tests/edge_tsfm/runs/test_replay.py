"""A ward's history through the monitor's own verdicts."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from device_runtime.quality.rules import QualityRules
from device_runtime.update.health import HealthRules
from edge_tsfm.data.series import Series
from edge_tsfm.errors import DataError
from edge_tsfm.runs.history import Lengths
from edge_tsfm.runs.replay import Replay, replay
from tests.simulators.publisher import BUNDLE, adapter_blob
from tests.simulators.ward_feed import Oracle, feed

HOUR = pd.Timedelta("1h")
LENGTHS = Lengths(context_length=24, prediction_length=6, min_observed=12, interval_ms=3_600_000)


def ward(stays: int, hours: int = 60) -> list[Series]:
    out = []
    for stay in range(stays):
        values = np.array([value for _, value in feed(hours, stay)], dtype=np.float32)
        values[5::17] = np.nan
        out.append(Series(item_id=f"p{stay:03d}", signal="MAP", interval=HOUR, target=values))
    return out


def run(stays: list[Series], shift: float, *, percent: float = 2.0, **rules: Any) -> Replay:
    return replay(
        stays, Oracle("a" * 64, shift), Oracle(None),  # type: ignore[arg-type]
        health=HealthRules(max_wql_vs_base_percent=percent), rules=QualityRules(**{"shadow_every": 1, **rules}),
        lengths=LENGTHS,
    )  # fmt: skip


def test_a_worse_adapter_is_taken_back_and_it_says_when() -> None:
    found = run(ward(60), 0.6)
    assert found.verdict == "taken back"
    first = found.events[0]
    assert first.item_id == f"p{first.stay - 1:03d}"
    assert 200 <= first.scored < 12 * 60 * 60
    assert "against the base's" in first.why
    drift = next(one for one in found.events if one.what == "drift")
    assert drift.stay >= 1


def test_another_adapter_is_named_where_it_is_the_other() -> None:
    found = replay(
        ward(60), Oracle("a" * 64, 0.6), Oracle("b" * 64),  # type: ignore[arg-type]
        health=HealthRules(max_wql_vs_base_percent=2.0), rules=QualityRules(shadow_every=1),
        lengths=LENGTHS,
    )  # fmt: skip
    assert (found.against, found.verdict) == ("b" * 64, "taken back")
    assert f"against adapter {'b' * 16}'s" in found.events[0].why


def test_a_good_adapter_is_confirmed() -> None:
    found = run(ward(60), 0.0, percent=5.0)
    assert [one.what for one in found.events] == ["confirmed"]


def test_too_short_a_history_decides_nothing() -> None:
    found = run(ward(2), 0.0)
    assert (found.verdict, found.events) == ("still on trial", ())
    assert found.figures["against"]["base"]["wql_percent"] == 0.0


def test_stays_can_be_the_unit() -> None:
    found = run(ward(60), 0.6, unit="stay")
    assert found.figures["against"]["base"]["units"] == 60


def test_every_step_with_enough_behind_it_is_forecast_and_no_stay_reaches_into_another() -> None:
    stays = ward(3)
    found = run(stays, 0.0)
    wanted = 0
    for one in stays:
        seen = np.isfinite(one.target)
        wanted += sum(bool(seen[step]) and seen[max(0, step - 23) : step + 1].sum() >= 12 for step in range(len(seen)))
    assert found.forecasts == wanted


def test_nothing_to_replay_and_steps_of_no_length_are_said() -> None:
    with pytest.raises(DataError, match="no stays"):
        run([], 0.0)
    short = [Series(item_id="p", signal="MAP", interval=HOUR, target=np.ones(5, dtype=np.float32))]
    with pytest.raises(DataError, match="12 observed values"):
        run(short, 0.0)
    steps = [Series(item_id="p", signal="MAP", interval=1.0, target=np.ones(50, dtype=np.float32))]
    with pytest.raises(DataError, match="whole milliseconds") as raised:
        run(steps, 0.0)
    assert raised.value.hint == "say how long a step is: --interval 1h"


def command(*words: str | Path) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "edge_tsfm.cli", "replay", *map(str, words), "--quiet"]
    return subprocess.run(line, capture_output=True, text=True, check=False)


def test_the_command_prints_what_it_found_and_refuses_what_it_cannot_compare(tmp_path: Path) -> None:
    frames = [
        pd.DataFrame({"item_id": one.item_id, "timestamp": range(len(one)), "MAP": one.target.round(1)})
        for one in ward(4)
    ]
    data, blob = tmp_path / "ward.csv", tmp_path / "map.etsa"
    pd.concat(frames).to_csv(data, index=False)
    blob.write_bytes(adapter_blob(1))
    told = [data, "--bundle", BUNDLE, "--adapter", blob, "--interval", "1h", "--split", "all"]
    done = command(*told, "--against", "base")
    assert done.returncode == 0, done.stderr
    assert "against the base alone: still on trial" in done.stdout
    assert "4 stays of MAP" in done.stdout
    value = json.loads(command(*told, "--against", "base", "--json").stdout)
    assert value["verdict"] == "still on trial"
    assert set(value) >= {"forecasts", "figures", "events", "split"}
    for against, said in ((str(blob), "is the adapter itself"), (str(tmp_path / "none"), "want base, or an adapter")):
        wrong = command(*told, "--against", against)
        assert (wrong.returncode, said in wrong.stderr) == (1, True), wrong.stderr
    other = tmp_path / "other.etsa"
    other.write_bytes(adapter_blob(2))
    assert "against adapter" in command(*told, "--against", other).stdout


def test_a_replay_is_plain_values() -> None:
    assert json.loads(json.dumps(asdict(run(ward(2), 0.0))))["stays"] == 2
