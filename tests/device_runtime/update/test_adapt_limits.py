"""Nothing that was learnt goes further than settings and envelope allow, whoever wrote it into the state folder."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from device_runtime.adapt.envelope import Envelope, decode, encode, open_signed
from device_runtime.adapt.modes import Mode
from device_runtime.errors import (
    CanonicalError,
    DeviceRuntimeError,
    ForecastError,
    FormatError,
    RollbackError,
    SignatureError,
    UnsupportedError,
)
from device_runtime.format import blob as blobs
from device_runtime.format import canonical
from device_runtime.format.adapter import Adapter
from device_runtime.format.delta import Dense, Numbers
from device_runtime.update import envelope_store
from device_runtime.update.adapt_mode import allowed
from device_runtime.update.adapt_report import steps_of
from device_runtime.update.adapt_settings import AdaptSettings
from device_runtime.update.learner_store import LEARNER
from device_runtime.update.lifecycle import Entry
from tests.simulators.learning_bed import KEY, PUBLIC, WHO, LearningBed, envelope_for, plain_envelope, signed
from tests.support.head import Head

SETTINGS = AdaptSettings(mode=Mode.ACTIVE, enabled_by=WHO)


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


def test_an_envelope_of_the_first_version_means_all_that_was_learnt() -> None:
    value = json.loads(encode(plain_envelope(3)))
    old = {
        **value,
        "format_version": 1,
        "rules": {name: one for name, one in value["rules"].items() if name != "blend"},
    }
    found = decode(canonical.dumps(old))
    assert found.rules.blend == 1.0
    assert replace(found, rules=replace(found.rules, blend=plain_envelope(3).rules.blend)) == plain_envelope(3)
    for wrong in ({**value, "format_version": 1}, {**old, "format_version": 2}):
        with pytest.raises(FormatError, match="blend"):
            decode(canonical.dumps(wrong))


def test_an_envelope_reads_back_and_nothing_else_does() -> None:
    envelope = plain_envelope(3)
    text = encode(envelope)
    assert decode(text) == envelope
    assert open_signed(signed(envelope), (PUBLIC,), 1) == envelope
    value = json.loads(text)
    for change, error, said in (
        ({"sequence": -1}, FormatError, "sequence -1"),
        ({"base": "x"}, FormatError, "SHA-256"),
        ({"tensors": []}, FormatError, "0 tensors"),
        ({"enabled_by": []}, FormatError, "who may enable"),
        ({"colour": "blue"}, FormatError, "unknown key 'colour'"),
        ({"format_version": 3}, UnsupportedError, "version 3"),
        ({"format": "other"}, FormatError, "not an envelope"),
        ({"rules": {**value["rules"], "promote_evidence": 11.0}}, FormatError, "at least 20"),
        ({"rules": {**value["rules"], "rate": 7.0}}, FormatError, "rate 7"),
    ):
        with pytest.raises(error, match=said):
            decode(canonical.dumps({**value, **change}))
    for name in value:
        short = {key: one for key, one in value.items() if key != name}
        with pytest.raises(DeviceRuntimeError):
            decode(canonical.dumps(short))
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


def test_a_candidate_that_fails_is_discarded_and_learning_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Were it kept, it would be judged by those stays alone on which it does not fail."""
    bed = LearningBed(tmp_path)
    for _ in range(6):
        bed.stay()
    before = bed.host._adapting.facts()
    assert before["stays_judged"] > 0
    plain = Head.forecast

    def fail(head: Head, context: Any, steps: int, shift: Any) -> Any:
        if shift.any():
            raise ForecastError("the model's quantiles are not finite")
        return plain(head, context, steps, shift)

    with monkeypatch.context() as failing:
        failing.setattr(Head, "forecast", fail)
        bed.stay()
    after = bed.host._adapting.facts()
    assert (after["refused"], after["stays_judged"], after["evidence"]) == (before["refused"] + 1, 0, 1.0)
    assert after["steps"] < before["steps"], "another candidate, from nothing"
    assert any(None in step["losses"] for step in steps_of(bed.config)), "told on the disk, which has no NaN"
    bed.host = bed.start()
    bed.stay()
    assert bed.host._adapting.problem == ""
    assert bed.host._adapting.facts()["stays_judged"] == 1
