"""Every change is reported, every act recorded; a finished roll-out is judged again; a cut-off monitor says so."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from device_runtime.cli import cli as device_cli
from edge_tsfm.deploy import rings
from edge_tsfm.deploy.controller import Action, Stage, went_back
from edge_tsfm.deploy.ledger import read_ring, read_rollout
from edge_tsfm.deploy.sbom import sbom_of
from edge_tsfm.deploy.status import lines, status_of
from edge_tsfm.errors import DeployError
from tests.simulators.bed import CONTEXT, Bed
from tests.simulators.publisher import EVERYBODY


def device(bed: Bed, *command: str, status: int = 0) -> str:
    result = CliRunner().invoke(device_cli, [*command, "--config", str(bed.folder / "bed" / "device.toml")])
    assert result.exit_code == status, result.output
    return result.output


def reported(bed: Bed) -> dict[str, Any]:
    (path,) = (bed.folder / "reports").glob("*.json")
    return dict(json.loads(path.read_bytes()))


# --- reports ------------------------------------------------------------------------------------------------


def test_what_is_done_by_hand_is_reported(bed: Bed) -> None:
    bed.offer(3)
    bed.poll()
    assert reported(bed)["candidate_sequence"] == 3
    device(bed, "confirm", "--reason", "watched")
    assert (reported(bed)["sequence"], reported(bed)["candidate_sequence"]) == (3, None)
    device(bed, "rollback", "--reason", "looks odd")
    assert (reported(bed)["sequence"], reported(bed)["failed_sequence"]) == (2, 3)


def test_what_the_host_decides_is_reported(bed: Bed) -> None:
    from device_runtime.update.host import Host

    bed.offer(3)
    bed.poll()
    told: list[int] = []
    host = Host(bed.config, bed.installer.open, changed=lambda: told.append(bed.record.generation))
    host.forecast(CONTEXT)
    assert told == [bed.record.generation - 1, bed.record.generation]  # a start was counted, then it was confirmed


def test_a_report_that_cannot_be_sent_is_said_and_changes_nothing(bed: Bed) -> None:
    path = bed.folder / "bed" / "device.toml"
    folder = bed.folder / "reports"
    path.write_text(path.read_text().replace(f'report_to = "{folder}"', 'report_to = "http://127.0.0.1:9/"'))
    assert "report not sent" in device(bed, "rollback", "--reason", "x")
    assert bed.versions == [1]


def test_a_monitor_that_went_back_is_seen_and_a_finish_is_judged_again(bed: Bed) -> None:
    bed.offer(3)
    bed.poll()
    device(bed, "confirm", "--reason", "watched")
    reports = bed.folder / "reports"
    assert rings.step(bed.publisher, "icu", reports, who="ops").action is Action.FINISH
    with pytest.raises(DeployError, match="finished, 1 confirmed, 0 failed"):
        rings.step(bed.publisher, "icu", reports, who="ops")
    device(bed, "rollback", "--reason", "looks odd")
    with pytest.raises(DeployError, match="0 confirmed, 1 failed: bed went back"):  # this plan forgives a hundred
        rings.step(bed.publisher, "icu", reports, who="ops")
    assert "  went back: bed" in lines(status_of(bed.publisher))
    state = read_rollout(bed.publisher, "icu")
    assert state is not None
    state["stages"] = [{**stage, "max_failures": 0} for stage in state["stages"]]
    rings.write_rollout(bed.publisher, state)
    assert rings.step(bed.publisher, "icu", reports, who="ops").action is Action.STOP
    assert status_of(bed.publisher)["rings"]["icu"]["rollout"]["halt"]


REPORT = {"device": "a", "channel": "icu", "sequence": 3, "candidate_sequence": None, "failed_sequence": -1}


@pytest.mark.parametrize(
    ("changes", "confirmed", "back"),
    [
        ({}, ["a"], []),
        ({"sequence": None}, ["a"], ["a"]),  # the record was lost, or it went back by itself
        ({"sequence": 2}, ["a"], ["a"]),
        ({"sequence": 2}, [], []),  # never had it
        ({"sequence": 2, "failed_sequence": 3}, [], ["a"]),
        ({"sequence": 4}, ["a"], []),  # has gone on
        ({"sequence": 2, "channel": "ward"}, ["a"], []),
        ({"sequence": "x"}, ["a"], []),
    ],
)
def test_who_went_back(changes: dict[str, Any], confirmed: list[str], back: list[str]) -> None:
    assert went_back([{**REPORT, **changes}], ring="icu", sequence=3, confirmed=confirmed) == back


def test_one_that_lost_what_it_confirmed_counts_as_failed(bed: Bed) -> None:
    file = bed.offer(3)
    rings.start(bed.publisher, "icu", file, (Stage(permille=1000, soak_hours=0.0, min_reports=2),), who="ops")
    bed.poll()
    device(bed, "confirm", "--reason", "watched")
    reports = bed.folder / "reports"
    assert rings.step(bed.publisher, "icu", reports, who="ops").action is Action.WAIT
    (bed.config.state / "state").write_bytes(b"damaged")
    bed.poll(activate_now=False)
    assert reported(bed)["sequence"] is None
    decision = rings.step(bed.publisher, "icu", reports, who="ops")
    assert (decision.action, decision.confirmed, decision.failed) == (Action.STOP, 0, 1)


# --- status -------------------------------------------------------------------------------------------------


def test_status_says_when_the_publisher_was_heard_last(bed: Bed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time", lambda: bed.now)
    bed.poll()
    value = json.loads(device(bed, "status", "--json"))
    assert value["last_poll"] == {"tried": bed.now, "good": bed.now, "problem": ""}
    assert value["revocations_signed"] == bed.publisher.now.timestamp()
    assert value["next_expiry"] == {"role": "timestamp", "at": bed.publisher.now.timestamp() + 7 * 86_400}
    good = bed.now
    bed.now += 400 * 86_400
    assert "polled    400 days ago" in device(bed, "status")
    bed.poll()
    text = device(bed, "status")
    assert "polled    400 days ago; since then" in text
    assert "list signed 400 days ago" in text
    assert "expires   timestamp, 393 days ago" in text
    assert json.loads(device(bed, "status", "--json"))["last_poll"]["good"] == good


def test_status_of_a_monitor_that_never_polled(bed: Bed) -> None:
    (bed.config.state / "poll").unlink(missing_ok=True)
    assert "polled    never" in device(bed, "status")


# --- records ------------------------------------------------------------------------------------------------


def records(bed: Bed, act: str) -> list[dict[str, Any]]:
    found = sorted((bed.folder / "repository/records").glob(f"*-{act}*.json"))
    return [json.loads(path.read_bytes()) for path in found]


def test_every_act_has_a_record_and_a_page(bed: Bed) -> None:
    third = bed.offer(3)
    rings.pause(bed.publisher, "icu", paused=True, who="ops", why="night")
    rings.pause(bed.publisher, "icu", paused=False, who="ops", why="day")
    rings.halt(bed.publisher, "icu", who="ops", why="enough <b>for</b> today")
    rings.downgrade(bed.publisher, "icu", third, EVERYBODY, who="ops", why="known good")
    rings.take_back(bed.publisher, "icu", third, older=True, who="A. Quality", why="bands too narrow")
    for act, group in (("start", "rollout"), ("pause", "rollout"), ("resume", "rollout"), ("halt", "rollout"),
                       ("downgrade", "quality"), ("revoke", "quality")):  # fmt: skip
        made = [  # of equal moments the names' order is that of the blobs' hashes
            value for value in records(bed, act) if third in [one["digest"]["sha256"] for one in value["subject"]]
        ]
        assert made
        value = made[-1]
        assert value["_type"] == "https://in-toto.io/Statement/v1"
        keys = {ref.keyid for ref in bed.publisher.refs(group)}
        assert set(value["predicate"]["approvals"][group]) <= keys
        assert value["predicate"]["approvals"][group]
    (revoked,) = records(bed, "revoke")
    assert len(revoked["predicate"]["adapters"]) == 3  # and all before it
    assert all(one["revoked"] for one in revoked["predicate"]["adapters"])
    assert revoked["predicate"]["security_minimum"] == 5
    known = read_ring(bed.publisher, "icu").adapters
    assert {one["adapter"] for one in revoked["predicate"]["adapters"]} == set(known.values())
    pages = [path.read_text() for path in (bed.folder / "repository/records").glob("*-halt*.html")]
    assert len(pages) == 1
    assert "enough &lt;b&gt;for&lt;/b&gt; today" in pages[0]


def test_the_bill_of_materials_says_what_was_revoked(bed: Bed) -> None:
    pytest.importorskip("jsonschema", reason="cyclonedx-python-lib[json-validation] is not installed")
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    third = bed.offer(3)
    rings.take_back(bed.publisher, "icu", third, older=False, who="A. Quality", why="bands too narrow")
    text = sbom_of(bed.publisher)
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    said = {}
    for component in json.loads(text)["components"]:
        if component["bom-ref"].startswith("adapter:"):
            properties = {one["name"]: one["value"] for one in component["properties"]}
            limits = component["modelCard"].get("considerations", {}).get("technicalLimitations", [])
            said[properties["edge-tsfm:signed-file"]] = (properties["edge-tsfm:status"], limits)
    assert sorted(status for status, _ in said.values()) == ["approved", "approved", "revoked"]
    status, limits = said[third]
    assert status == "revoked"
    assert "A. Quality: bands too narrow" in limits[0]


# --- signed adapters only -------------------------------------------------------------------------------------


@pytest.fixture
def settings(bed: Bed, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = bed.folder / "bed" / "device.toml"
    monkeypatch.setenv("EDGE_TSFM_DEVICE_CONFIG", str(path))
    return path


def verbs(bed: Bed, adapter: Path) -> dict[str, list[str]]:
    series = bed.folder / "series.csv"
    series.write_text("item_id,target\n" + "a,70\na,71\na,72\n" * 8)
    bundle = str(bed.config.bundle)
    given = ["--adapter", str(adapter)]
    return {
        "forecast": ["forecast", bundle, *given, "--input", str(series), "--target", "MAP", "--interval", "1h"],
        "selftest": ["selftest", bundle, *given],
        "stream": ["stream", bundle, *given, "--signal", "MAP", "--interval", "1h"],
        "bench": ["bench", bundle, *given, "--runs", "3", "--context-length", "8"],
    }


@pytest.mark.parametrize("verb", ["forecast", "selftest", "stream", "bench"])
def test_an_unsigned_path_is_refused_where_the_settings_say_so(bed: Bed, settings: Path, verb: str) -> None:
    from tests.simulators.publisher import adapter_blob

    unsigned, signed = bed.folder / "unsigned.etsa", bed.folder / "signed.etsa"
    unsigned.write_bytes(adapter_blob(9))
    current = bed.record.current
    assert current is not None
    signed.write_bytes((bed.config.state / "slots" / current.file).read_bytes())
    assert "signed_only = true" in settings.read_text()
    result = CliRunner().invoke(device_cli, verbs(bed, unsigned)[verb], input="")
    assert result.exit_code == 1
    assert "takes signed adapters only" in str(result.exception)
    result = CliRunner().invoke(device_cli, verbs(bed, signed)[verb], input="")
    assert result.exit_code == 0, result.output
    settings.write_text(settings.read_text().replace("signed_only = true", "signed_only = false"))
    assert CliRunner().invoke(device_cli, verbs(bed, unsigned)[verb], input="").exit_code == 0


def test_a_revoked_path_is_refused_too(bed: Bed, settings: Path) -> None:
    current = bed.record.current
    assert current is not None
    path = bed.folder / "signed.etsa"
    path.write_bytes((bed.config.state / "slots" / current.file).read_bytes())
    rings.take_back(bed.publisher, "icu", current.file, older=False, who="ops", why="test")
    bed.poll()
    result = CliRunner().invoke(device_cli, verbs(bed, path)["selftest"])
    assert "is revoked" in str(result.exception)


@pytest.mark.parametrize("broken", ["junk", "mode"])
def test_settings_that_cannot_be_read_allow_nothing(bed: Bed, settings: Path, broken: str) -> None:
    from tests.simulators.publisher import adapter_blob

    path = bed.folder / "unsigned.etsa"
    path.write_bytes(adapter_blob(9))
    if broken == "junk":
        settings.write_text("[[")
    else:
        settings.chmod(0o666)
    assert CliRunner().invoke(device_cli, verbs(bed, path)["selftest"]).exit_code == 1
