"""The roll-out controller and field quality: figures over monitors, and a halt that says which one it was."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from device_runtime.quality.field import FieldQuality
from device_runtime.quality.pending import Made
from device_runtime.quality.rules import QualityRules
from edge_tsfm.deploy import rings
from edge_tsfm.deploy.controller import Action, Stage, decide, read_plan
from edge_tsfm.deploy.field_figures import MIN_UNITS, Figure, field_figures, width
from edge_tsfm.deploy.ledger import read_ring, read_rollout
from edge_tsfm.deploy.status import lines, status_of
from edge_tsfm.errors import ConfigError
from tests.simulators.publisher import approve_version, make_repository, write_json
from tests.simulators.ward_feed import LEVELS, Oracle, feed

STAGE = Stage(permille=500, min_reports=2, soak_hours=0.0, max_wql_vs_base_percent=2.0)
LAST = Stage(permille=1000, min_reports=2, soak_hours=0.0)
HOUR = 3_600_000


def monitor(adapter: str, shift: float, seed: int, *, steps: int = 600, previous: bool = False) -> dict[str, Any]:
    """What a monitor's report says of an adapter that is ``shift`` standard deviations off."""
    field = FieldQuality(QualityRules(shadow_every=1))
    runs, base = Oracle(adapter, shift), Oracle(None)
    for t_ms, value in feed(steps, seed):
        field.observe("MAP", t_ms, value, interval_ms=HOUR)
        keep, _ = field.wants("MAP", 6, 9)
        assert keep
        made = {
            name: Made(adapter=one.adapter_digest, quantiles=one.forecast([value], 6).quantiles)
            for name, one in (("own", runs), ("base", base))
        }
        shadows = {"base": made["base"]} | ({"previous": made["base"]} if previous else {})
        field.remember("MAP", made["own"], LEVELS, np.array([value], dtype=np.float32), shadows)
    field.end_stay("MAP")
    said: dict[str, Any] = json.loads(json.dumps(field.published()))
    return said


def report(number: int, quality: dict[str, Any], *, sequence: int, **more: Any) -> dict[str, Any]:
    return {
        "device": f"bed-{number}", "channel": "icu", "sequence": sequence, "candidate_sequence": None,
        "failed_sequence": -1, "generation": 4, "quality": quality, **more,
    }  # fmt: skip


def figure(percent: float, low: float, high: float) -> Figure:
    return Figure(percent=percent, low=low, high=high, monitors=3, steps=900, units=80)


@pytest.mark.parametrize(
    ("low", "high", "action"),
    [(2.01, 9.0, Action.STOP), (2.0, 9.0, Action.WAIT), (-3.0, 2.01, Action.WAIT), (-3.0, 2.0, Action.ADVANCE)],
    ids=["all above", "touches from above", "partly above", "none above"],
)
def test_boundaries(low: float, high: float, action: Action) -> None:
    field = {"base": figure(1.0, low, high)}
    decision = decide((STAGE, LAST), 0, confirmed=2, failed=0, seconds=0.0, field=field)
    assert decision.action is action, decision
    if action is not Action.ADVANCE:
        assert decision.figure == "max_wql_vs_base_percent"
        assert "+1.00 %" in decision.why


def test_without_figures_a_stage_with_a_limit_waits_and_one_without_goes_on() -> None:
    waits = decide((STAGE, LAST), 0, confirmed=2, failed=0, seconds=0.0)
    assert (waits.action, waits.figure) == (Action.WAIT, "max_wql_vs_base_percent")
    assert decide((LAST,), 0, confirmed=2, failed=0, seconds=0.0).action is Action.FINISH


def test_failures_say_that_they_stopped_it() -> None:
    assert decide((STAGE, LAST), 0, confirmed=2, failed=1, seconds=0.0).figure == "max_failures"


def test_the_previous_adapter_has_a_limit_of_its_own() -> None:
    stage = Stage(permille=500, soak_hours=0.0, max_wql_vs_previous_percent=1.0)
    field = {"base": figure(9.0, 8.0, 10.0), "previous": figure(3.0, 1.5, 4.5)}
    decision = decide((stage, LAST), 0, confirmed=2, failed=0, seconds=0.0, field=field)
    assert (decision.action, decision.figure) == (Action.STOP, "max_wql_vs_previous_percent")


def test_a_stage_with_limits_is_read_and_one_that_means_nothing_is_refused() -> None:
    (stage,) = read_plan(b"[[stage]]\npermille = 1000\nmax_wql_vs_previous_percent = 0.5\n", "plan")
    assert stage.limits == {"max_wql_vs_previous_percent": 0.5}
    with pytest.raises(ConfigError, match="max_wql_vs_base_percent"):
        Stage(permille=1, max_wql_vs_base_percent=-100.0)


def test_figures_are_those_of_the_sums_of_all_monitors() -> None:
    said = [monitor("a", 0.6, seed, previous=True) for seed in range(3)]
    found = field_figures([report(n, one, sequence=1) for n, one in enumerate(said)], ring="icu", adapter="a")
    units = np.array([one["MAP"][0]["base"]["units"] for one in said])
    assert found["base"].percent == pytest.approx(100 * (units[:, 1].sum() / units[:, 2].sum() - 1))
    assert found["base"].low < found["base"].percent < found["base"].high
    assert (found["base"].monitors, found["base"].units) == (3, int(units[:, 0].sum()))
    assert found["previous"] == found["base"]
    assert field_figures([report(0, said[0], sequence=1)], ring="other", adapter="a") == {}
    assert field_figures([report(0, said[0], sequence=1)], ring="icu", adapter="b") == {}


def test_monitors_that_disagree_widen_the_interval() -> None:
    alike = [monitor("a", 0.4, seed) for seed in range(4)]
    mixed = [monitor("a", shift, seed) for seed, shift in enumerate((0.0, 0.0, 0.6, 0.6))]
    widths = []
    for said in (alike, mixed):
        one = field_figures([report(n, q, sequence=1) for n, q in enumerate(said)], ring="icu", adapter="a")["base"]
        widths.append(one.high - one.low)
    assert widths[1] > 1.5 * widths[0]


JUNK: list[Any] = [
    None, 7, [], {"MAP": None}, {"MAP": [None, 5]}, {"MAP": [{"adapter": "a"}]},
    {"MAP": [{"adapter": "a", "base": {"own": [1], "units": [1] * 6}}]},
    {"MAP": [{"adapter": "a", "base": {"own": [0] * 17, "units": [1] * 5}}]},
    {"MAP": [{"adapter": "a", "base": {"own": [0] * 17, "units": [40, -1, 1, 1, 1, 1]}}]},
    {"MAP": [{"adapter": "a", "base": {"own": [0] * 17, "units": [1e300] * 6}}]},
    {"MAP": [{"adapter": "a", "base": {"own": ["x"] * 17, "units": [1] * 6}}]},
]  # fmt: skip


@pytest.mark.parametrize("junk", JUNK, ids=range(len(JUNK)))
def test_what_is_no_report_of_figures_is_passed_over(junk: Any) -> None:
    good = [report(n, monitor("a", 0.6, n, steps=300), sequence=1) for n in range(2)]
    alone = field_figures(good, ring="icu", adapter="a")
    assert alone["base"].units >= MIN_UNITS - 10
    assert field_figures([*good, report(9, junk, sequence=1)], ring="icu", adapter="a") == alone


def test_the_sequence_is_wider_than_one_look_and_narrows_in_standard_errors_where_it_is_tuned() -> None:
    assert width(100) > 2.58
    assert width(30) > width(100)
    assert width(10_000) > width(100)


@pytest.mark.parametrize(("shift", "action"), [(0.6, "stop"), (0.0, "advance")])
def test_a_rollout_of_a_worse_adapter_halts_and_says_by_which_figure(tmp_path: Path, shift: float, action: str) -> None:
    repository = make_repository(tmp_path)
    approval = approve_version(repository, 1)
    rings.start(repository, "icu", approval.file, (STAGE, LAST), who="ops")
    ring = read_ring(repository, "icu")
    adapter, sequence = ring.adapters[approval.file], ring.sequences[approval.file]
    folder = tmp_path / "reports"
    folder.mkdir()
    for number in range(3):
        quality = monitor(adapter, shift, number, steps=3_000)
        write_json(folder / f"{number}.json", report(number, quality, sequence=sequence))
    decision = rings.step(repository, "icu", folder, who="timer")
    assert decision.action.value == action, decision
    state = read_rollout(repository, "icu")
    assert state is not None
    if action == "stop":
        assert decision.figure == "max_wql_vs_base_percent"
        assert state["halt"]
        assert state["because"] == decision.why
        assert "over 3 monitors" in decision.why
        assert f"  because  {decision.why}" in lines(status_of(repository))
        log = [json.loads(line) for line in (repository.folder / "decisions" / "icu.jsonl").read_text().splitlines()]
        assert (log[-1]["action"], log[-1]["why"]) == ("stop", decision.why)
    else:
        assert (state["stage"], state["halt"]) == (1, False)


def test_a_rollout_of_an_older_release_goes_on(tmp_path: Path) -> None:
    repository = make_repository(tmp_path)
    approval = approve_version(repository, 1)
    rings.start(repository, "icu", approval.file, (LAST,), who="ops")
    path = repository.folder / "rollouts" / "icu.json"
    state = json.loads(path.read_text())
    for stage in state["stages"]:
        del stage["max_wql_vs_base_percent"], stage["max_wql_vs_previous_percent"]
    path.write_text(json.dumps(state))
    reports = tmp_path / "reports"
    reports.mkdir()
    for number in range(2):
        old = report(number, {}, sequence=state["sequence"])
        del old["quality"]
        write_json(reports / f"{number}.json", old)
    assert rings.step(repository, "icu", reports, who="timer").action is Action.FINISH


def test_a_report_with_many_signals_is_not_passed_over(tmp_path: Path) -> None:
    said = monitor("a", 0.6, 0, previous=True)["MAP"]
    quality = {f"signal {n}": [*said, {**said[0], "adapter": "b"}] for n in range(8)}
    path = write_json(tmp_path / "bed.json", report(0, quality, sequence=1))
    assert path.stat().st_size > 16_384
    (found,) = rings.read_reports(tmp_path)
    assert field_figures([found], ring="icu", adapter="a")["base"].units > 100
