"""Nothing that was learnt goes further than settings and envelope allow, whoever wrote it into the state folder."""

from __future__ import annotations

import hashlib
import json
import stat
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from device_runtime.adapt.envelope import Envelope, decode, encode, open_signed
from device_runtime.adapt.modes import Mode
from device_runtime.adapt.rules import AdaptRules
from device_runtime.cli import cli
from device_runtime.errors import (
    CanonicalError,
    DeviceRuntimeError,
    FormatError,
    RollbackError,
    SettingsError,
    SignatureError,
    StateError,
    UnsupportedError,
)
from device_runtime.forecast.learning import LearningSession
from device_runtime.format import blob as blobs
from device_runtime.format.adapter import Adapter
from device_runtime.format.delta import Dense, Numbers
from device_runtime.update import envelope_store
from device_runtime.update.adapt_mode import allowed
from device_runtime.update.adapt_settings import AdaptSettings
from device_runtime.update.learner_store import LEARNER
from device_runtime.update.lifecycle import Entry
from tests.simulators.learning_bed import (
    HOUR,
    KEY,
    PUBLIC,
    QUICK,
    WHO,
    LearningBed,
    envelope_for,
    plain_envelope,
    signed,
)
from tests.support.head import Head

SETTINGS = AdaptSettings(mode=Mode.ACTIVE, enabled_by=WHO)


@pytest.fixture(scope="module")
def promoted(tmp_path_factory: pytest.TempPathFactory) -> LearningBed:
    bed = LearningBed(tmp_path_factory.mktemp("promoted"))
    assert bed.until_own() <= 80
    return bed


@pytest.fixture
def own(promoted: LearningBed, tmp_path: Path) -> LearningBed:
    """A monitor of its own in the state that the promoted one was in."""
    bed = LearningBed(tmp_path, envelope=False)
    bed.host.close()
    for path in promoted.config.state.rglob("*"):
        if path.is_file():
            place = bed.config.state / path.relative_to(promoted.config.state)
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(path.read_bytes())
    bed.host = bed.start()
    assert bed.host.runs_own
    return bed


@pytest.mark.parametrize(
    ("settings", "envelope", "mode", "why"),
    [
        (SETTINGS, None, Mode.SHADOW, "without an envelope shadow is the most"),
        (replace(SETTINGS, mode=Mode.SHADOW), None, Mode.SHADOW, ""),
        (replace(SETTINGS, mode=Mode.OFF), plain_envelope(1), Mode.OFF, ""),
        (SETTINGS, plain_envelope(1), Mode.ACTIVE, ""),
        (replace(SETTINGS, enabled_by="me"), plain_envelope(1), Mode.SHADOW, "'me' may not enable active"),
        (replace(SETTINGS, enabled_by=""), plain_envelope(1), Mode.SHADOW, "nobody, since enabled_by is not set"),
    ],
)
def test_the_mode_is_the_lesser_of_both(
    settings: AdaptSettings, envelope: Envelope | None, mode: Mode, why: str
) -> None:
    found = allowed(settings, envelope)
    assert found.mode is mode
    assert why in found.why
    assert bool(found.why) == bool(why)


def test_caps_and_evidence_are_the_stricter_of_both_and_the_rule_is_the_envelope_s() -> None:
    envelope = plain_envelope(1)
    mine = replace(SETTINGS, cap_tensor=0.01, cap_day=1.0, promote_evidence=500.0, rate=0.001, kib_per_day=128)
    found = allowed(mine, envelope).rules
    assert (found.cap_tensor, found.promote_evidence, found.rate) == (0.01, 500.0, envelope.rules.rate)
    assert found.kib_per_day == 128
    assert allowed(replace(mine, keep_windows="disk"), envelope).rules.keep_windows == "memory"


def test_an_envelope_reads_back_and_nothing_else_does() -> None:
    envelope = plain_envelope(3)
    text = encode(envelope)
    assert decode(text) == envelope
    assert open_signed(signed(envelope), (PUBLIC,), 1) == envelope
    value = json.loads(text)
    canonical = {"sort_keys": True, "separators": (",", ":")}
    for change, error, said in (
        ({"sequence": -1}, FormatError, "sequence -1"),
        ({"base": "x"}, FormatError, "SHA-256"),
        ({"tensors": []}, FormatError, "0 tensors"),
        ({"enabled_by": []}, FormatError, "who may enable"),
        ({"colour": "blue"}, FormatError, "unknown key 'colour'"),
        ({"format_version": 2}, UnsupportedError, "version 2"),
        ({"format": "other"}, FormatError, "not an envelope"),
        ({"rules": {**value["rules"], "promote_evidence": 11.0}}, FormatError, "at least 20"),
        ({"rules": {**value["rules"], "rate": 7.0}}, FormatError, "rate 7"),
    ):
        with pytest.raises(error, match=said):
            decode(json.dumps({**value, **change}, **canonical).encode())  # type: ignore[call-overload]
    for name in value:
        short = {key: one for key, one in value.items() if key != name}
        with pytest.raises(DeviceRuntimeError):
            decode(json.dumps(short, **canonical).encode())  # type: ignore[call-overload]
    with pytest.raises(CanonicalError):
        decode(json.dumps(value).encode())


def test_an_envelope_that_nobody_trusted_signed_is_refused() -> None:
    envelope = plain_envelope(1)
    stranger = Ed25519PrivateKey.generate()
    with pytest.raises(SignatureError):
        open_signed(signed(envelope, stranger), (PUBLIC,), 1)
    good = signed(envelope)
    for at in range(0, len(good), 7):
        flipped = bytearray(good)
        flipped[at] ^= 1
        with pytest.raises(DeviceRuntimeError):
            open_signed(bytes(flipped), (PUBLIC,), 1)
        with pytest.raises(DeviceRuntimeError):
            open_signed(good[:at], (PUBLIC,), 1)
    # A blob's signature is none of an envelope's: the domain differs.
    text = encode(envelope)
    trailer = good[len(text) + 1 :][:16] + KEY.sign(b"edge-tsfm adapter v1\0" + text)
    with pytest.raises(SignatureError):
        open_signed(text + b"\n" + trailer, (PUBLIC,), 1)


def test_an_older_envelope_is_refused_and_another_of_the_same_number_too(tmp_path: Path) -> None:
    bed = LearningBed(tmp_path)
    bed.give(envelope_for(bed.config.bundle, sequence=5))
    for envelope in (
        envelope_for(bed.config.bundle, sequence=4),
        envelope_for(bed.config.bundle, sequence=5, mode=Mode.SHADOW),
    ):
        with pytest.raises(RollbackError):
            bed.give(envelope)
    bed.give(envelope_for(bed.config.bundle, sequence=6, mode=Mode.SHADOW))


def tightened(bed: LearningBed) -> None:
    bed.give(envelope_for(bed.config.bundle, sequence=2, mode=Mode.SHADOW))


def withdrawn(bed: LearningBed) -> None:
    bed.slots.withdraw("enough", who="publisher")


def switched_off(bed: LearningBed) -> None:
    bed.config = replace(bed.config, adapt=replace(bed.config.adapt, mode=Mode.SHADOW))
    bed.host = bed.start()


@pytest.mark.parametrize("change", [tightened, withdrawn, switched_off])
def test_what_runs_goes_back_when_it_is_not_allowed_any_more(
    own: LearningBed, change: Callable[[LearningBed], None]
) -> None:
    change(own)
    assert own.forecast().generation is None
    assert own.record.own is None
    assert own.record.reason


def test_an_envelope_that_cannot_be_read_costs_a_start_and_nothing_more(own: LearningBed) -> None:
    path = own.config.state / envelope_store.ENVELOPE
    good = path.read_bytes()
    path.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    again = own.start()
    assert again.forecast([14.0] * 23 + [15.0]).generation is None
    assert again.problem
    assert own.record.own is not None
    path.write_bytes(good)
    assert own.start().forecast([14.0] * 23 + [15.0]).generation is not None


def forged(bed: LearningBed, change: Callable[[Adapter], Adapter]) -> None:
    """Put another own adapter into the slots, as whoever can write there could."""
    record = bed.record
    assert record.own is not None
    adapter = blobs.decode(bed.slots.load(record.own))
    data = blobs.encode(change(adapter))
    digest = hashlib.sha256(data).hexdigest()
    entry = Entry(file=digest, adapter=digest, version=adapter.version, sequence=record.own.sequence)
    bed.slots.promote(data, entry, over=None, reason="forged", who="stranger")


def larger(adapter: Adapter) -> Adapter:
    (index, delta), *_ = adapter.deltas.items()
    numbers = Numbers.of(delta.dense(np.zeros(delta.shape)) * 20)
    return replace(adapter, deltas={index: Dense(numbers)})


def elsewhere(adapter: Adapter) -> Adapter:
    extra = {40: Dense(Numbers.of(np.full((8, 1), 0.01)))}
    return replace(adapter, deltas={**adapter.deltas, **extra})


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (larger, "at most"),
        (elsewhere, "more than the tensors"),
        (lambda adapter: replace(adapter, metadata={**adapter.metadata, "origin": "moon"}), "does not say that"),
        (lambda adapter: replace(adapter, metadata={**adapter.metadata, "parent": "0" * 64}), "does not say that"),
        (lambda adapter: replace(adapter, version=9), "another version"),
        (lambda adapter: replace(adapter, forced=True), "another version"),
    ],
)
def test_a_forged_own_adapter_does_not_come_up(
    own: LearningBed, change: Callable[[Adapter], Adapter], said: str
) -> None:
    forged(own, change)
    assert own.forecast().generation is None
    assert said in own.host.problem


def test_a_forged_answer_does_not_come_up(own: LearningBed) -> None:
    def wrong(adapter: Adapter) -> Adapter:
        answer = adapter.known_answer
        assert answer is not None
        return replace(adapter, known_answer=replace(answer, expected=answer.expected + 100 * answer.tolerance))

    forged(own, wrong)
    assert own.forecast().generation is None
    assert own.record.own is None  # proven against it: the base's own answer came out right beside it


def test_lost_evidence_takes_what_runs_back(own: LearningBed) -> None:
    (own.config.state / LEARNER).write_bytes(b"\0" * 512)
    own.host = own.start()
    assert own.host.runs_own
    own.stay()
    assert own.record.own is None
    assert "lost" in own.record.reason


def test_a_forecast_that_fails_by_what_was_learnt_is_made_without(
    own: LearningBed, monkeypatch: pytest.MonkeyPatch
) -> None:
    from device_runtime.errors import ForecastError
    from device_runtime.forecast.forecaster import Forecaster

    plain = Forecaster.forecast

    def fail(forecaster: Forecaster, *arguments: object, **named: object) -> object:
        if forecaster.generation is not None:
            raise ForecastError("the model's quantiles are not finite")
        return plain(forecaster, *arguments, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(Forecaster, "forecast", fail)
    assert own.forecast().adapter is None
    assert own.record.own is None
    assert "not finite" in own.record.reason


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


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"mode": "loud"}, "mode"),
        ({"colour": 1}, "unknown key 'colour'"),
        ({"ms_per_minute": 0.0}, "ms_per_minute"),
        ({"kib_per_day": 1}, "kib_per_day"),
        ({"promote": "me"}, "promote"),
        ({"keep_windows": "cloud"}, "keep_windows"),
        ({"policy": {"activation": "manual"}}, "never learn"),
        ({"rate": 1.0}, "rate 1"),
    ],
)
def test_settings_that_mean_nothing_are_refused(settings: dict[str, object], said: str) -> None:
    from device_runtime.binder import bind

    with pytest.raises(SettingsError, match=said):
        bind(AdaptSettings, settings, "device.toml", error=SettingsError)


def test_learning_wants_to_know_what(tmp_path: Path) -> None:
    bed = LearningBed(tmp_path, mode=Mode.OFF, envelope=False)
    with pytest.raises(SettingsError, match="want signal and interval"):
        replace(bed.config, signal="", adapt=replace(bed.config.adapt, mode=Mode.SHADOW))
    assert bed.host.learns is False
    with pytest.raises(StateError):
        bed.slots.demote("x", who="y")
    assert AdaptRules().mode is Mode.OFF
