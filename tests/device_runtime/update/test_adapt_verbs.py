"""The verbs of `edge-tsfm-device adapt`, on a monitor on which something that was learnt runs."""

from __future__ import annotations

import hashlib
import json
import stat
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from click.testing import CliRunner
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from device_runtime import monitor
from device_runtime.adapt.modes import Mode
from device_runtime.cli import cli
from device_runtime.errors import DeviceRuntimeError
from device_runtime.forecast.learning import LearningSession
from tests.simulators.learning_bed import HOUR, KEY, PUBLIC, QUICK, WHO, LearningBed
from tests.support.head import Head


def run(bed: LearningBed, *words: str) -> tuple[int, str]:
    """Run the command on the bed's settings."""
    path = bed.folder / "device.toml"
    adapt = bed.config.adapt
    numbers = {name: getattr(adapt, name) for name in (*QUICK, "context_length")}
    path.write_text(
        f'device_id = "bed"\nring = "icu"\nsignal = "RESP"\ninterval = "1h"\nbundle = "bundle"\nstate = "state"\n'
        f'trusted_keys = ["{PUBLIC.hex()}"]\n[adapt]\nmode = "{adapt.mode.value}"\n'
        f'promote = "{adapt.promote}"\nenabled_by = "{WHO}"\n'
        + "".join(f"{name} = {value}\n" for name, value in numbers.items())
    )
    path.chmod(stat.S_IRUSR | stat.S_IWUSR)
    result = CliRunner().invoke(cli, ["adapt", *words, "--config", str(path)])
    if isinstance(result.exception, DeviceRuntimeError):
        return 1, str(result.exception)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.output


@pytest.fixture
def head(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let commands learn on a bundle without a learning graph."""
    monkeypatch.setattr(LearningSession, "open", lambda folder, blob, settings: Head(folder, blob))
    monkeypatch.setattr(monitor, "read_learning", lambda folder: SimpleNamespace(fourier=None))


@pytest.mark.usefixtures("head")
def test_the_verbs_say_and_do(own: LearningBed) -> None:
    own.host.close()
    status, said = run(own, "status", "--json")
    value = json.loads(said)
    record = own.record
    assert record.own is not None
    assert (status, value["mode"], value["own"]["adapter"]) == (0, "active", record.own.adapter)
    assert value["learnt"]["state"] == "promoted"
    assert "own adapter" in run(own, "status")[1]
    log = [json.loads(line) for line in run(own, "log", "--json")[1].splitlines()]
    assert [entry["event"] for entry in log] == ["envelope", "promote"]
    assert set(log[1]["learnt"]["loss"]) == {"frozen", "running", "candidate"}
    assert "promote" in run(own, "log")[1]
    assert all("digest" in json.loads(line) for line in run(own, "log", "--steps", "--json")[1].splitlines())
    assert "the evidence is not enough" in run(own, "promote", "--reason", "now")[1]

    key = own.folder / "key.pem"
    key.write_bytes(KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    key.chmod(0o644)
    out = own.folder / "own.etsa"
    assert "read by others" in run(own, "export", "--out", str(out), "--key", str(key))[1]
    key.chmod(0o600)
    assert run(own, "export", "--out", str(out), "--key", str(key))[0] == 0
    from device_runtime.format import envelope as signatures

    blob, found = signatures.split(out.read_bytes())
    signatures.verify(blob, found, (PUBLIC,))
    statement = json.loads(Path(f"{out}.json").read_text())
    assert statement["subject"][0]["digest"]["sha256"] == hashlib.sha256(blob).hexdigest() == record.own.adapter
    predicate = statement["predicate"]
    assert predicate["evidence"]["evidence"] >= 20
    assert "contexts" not in json.dumps(statement)

    assert run(own, "demote", "--reason", "by hand")[0] == 0
    assert own.record.own is None
    assert "no adapter that was learnt here runs" in run(own, "demote", "--reason", "again")[1]
    assert "nothing to export" in run(own, "export", "--out", str(out))[1]
    assert run(own, "reset", "--reason", "discharged")[0] == 0
    assert json.loads(run(own, "status", "--json")[1])["learnt"] is None
    assert b"iterate" not in b"".join(p.read_bytes() for p in own.config.state.rglob("*") if p.is_file())


@pytest.mark.usefixtures("head")
def test_a_person_may_have_the_last_word(tmp_path: Path) -> None:
    bed = LearningBed(tmp_path, promote="hand")
    assert "nothing was learnt" in run(bed, "promote", "--reason", "now")[1]
    assert bed.until_own(60) > 60
    bed.host.close()
    assert run(bed, "promote", "--reason", "looked at the figures", "--who", "B")[0] == 0
    forecast = bed.forecast()
    assert forecast.generation is not None
    last = json.loads(run(bed, "log", "--json")[1].splitlines()[-1])
    assert (last["event"], last["who"], last["learnt"]["verdict"]) == ("promote", "B", "promote")
    bed.stay()
    assert bed.host._adapting.facts()["state"] == "promoted"
    bed.slots.withdraw("enough", who="publisher")
    assert "nothing may be promoted" in run(bed, "promote", "--reason", "now")[1]


@pytest.mark.usefixtures("head")
def test_a_recorded_feed_replays_to_the_same_bits(tmp_path: Path) -> None:
    bed = LearningBed(tmp_path, mode=Mode.SHADOW, envelope=False)
    feed = tmp_path / "feed.csv"
    lines = []
    for _ in range(12):
        t_ms = bed.t_ms
        values = bed.stay()
        lines += [f"RESP,{t_ms + HOUR * (n + 1)},{value}" for n, value in enumerate(values) if np.isfinite(value)]
        lines.append(f"RESP,{bed.t_ms},end")
    bed.host.close()
    feed.write_text("\n".join(lines))
    status, said = run(bed, "replay", str(feed), "--json")
    found = json.loads(said)
    assert (status, found["stays"], found["first_difference"]) == (0, 12, None)
    assert found["compared"] > 30
    lines[40] = lines[40].rpartition(",")[0] + ",9.0"
    feed.write_text("\n".join(lines))
    status, said = run(bed, "replay", str(feed))
    assert status == 1
    assert "differs" in said


def test_a_reset_reaches_the_process_that_learns(own: LearningBed) -> None:
    own.stay()
    assert own.host._adapting.facts()["stays"] > 0
    run(own, "reset", "--reason", "discharged")
    assert own.forecast().generation is None
    assert own.host._adapting.facts() == {}
    own.stay()
    assert own.host._adapting.facts()["stays"] == 1
