"""The base's own known answer: asked of the base alone by Python and C, one verdict, when opened and while running."""

from __future__ import annotations

import json
import re
import shutil
import signal
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from device_runtime.errors import BaseMismatchError, DeviceRuntimeError, FormatError, SelfTestError, StorageError
from device_runtime.forecast.bundle import Bundle
from device_runtime.forecast.forecaster import Forecaster
from device_runtime.format import canonical
from device_runtime.format.blob import encode

from .conftest import run
from .dummy import CONTEXT, LEVELS, STEPS, make_adapter
from .service import Service

KNOWN = [round(float(value), 4) for value in 70 + 10 * np.sin(np.arange(20) / 3)]
ANSWER = "known answer off by"


def with_answer(bundle: Bundle, folder: Path, answer: dict[str, Any] | None) -> Path:
    """A copy of a bundle that states that answer; None: none at all."""
    copy = folder / f"bundle-{len(list(folder.iterdir()))}"
    shutil.copytree(bundle.path, copy)
    value = json.loads((copy / "bundle.json").read_bytes())
    value.pop("known_answer", None)
    (copy / "bundle.json").write_bytes(canonical.dumps(value if answer is None else {**value, "known_answer": answer}))
    return copy


def right(bundle: Bundle, count: int, context: list[float] = KNOWN) -> dict[str, Any]:
    """The answer that the base gives."""
    probe = Forecaster.open(bundle)._model.probe(np.array(context, dtype=np.float32), count)
    return {"context": context, "expected": [round(float(number), 6) for number in probe], "tolerance": 0.01}


def both(built: Path, library: Path, bundle: Path) -> tuple[int, str]:
    """Open the base alone with both runtimes; return the code that both give, and what C says."""
    (bundle.parent / "series.csv").write_text("".join(f"{number}\n" for number in KNOWN))
    done = run(built / "forecast_ort" / "etsa-forecast", "--library", library, bundle, bundle.parent / "series.csv")
    refused = re.search(r"^etsa-forecast: \[(\d+)\] \w+Error: \S", done.stderr, flags=re.MULTILINE)
    code = 0
    try:
        Forecaster.open(bundle)
    except DeviceRuntimeError as error:
        code = error.code
    assert (int(refused[1]) if refused else done.returncode) == code, done.stderr
    return code, done.stderr


def test_a_right_answer_is_asked_and_said(built: Path, library: Path, bundle: Bundle, tmp_path: Path) -> None:
    longer = [KNOWN[i % 20] for i in range(2 * CONTEXT + 3)]  # cut to its latest values
    for answer in (right(bundle, 1), right(bundle, LEVELS * STEPS), right(bundle, 5, longer)):
        code, said = both(built, library, with_answer(bundle, tmp_path, answer))
        assert code == 0
        off = re.search(r"known answer off by ([\d.e+-]+)\n", said)
        assert off is not None
        assert float(off[1]) < 0.001
    code, said = both(built, library, with_answer(bundle, tmp_path, None))
    assert code == 0
    assert "without a known answer" in said


def test_wrong_answers_are_refused_by_both(built: Path, library: Path, bundle: Bundle, tmp_path: Path) -> None:
    good = right(bundle, 6)
    for number in range(6):
        for off in (-0.011, 0.011):
            wrong = [value + off * (place == number) for place, value in enumerate(good["expected"])]
            answer = {**good, "expected": [round(value, 6) for value in wrong]}
            code, said = both(built, library, with_answer(bundle, tmp_path, answer))
            assert code == SelfTestError.code
            assert "off by 0.01" in said
    flat = {**right(bundle, 3, [80.0] * 20), "tolerance": 0.0016}
    assert both(built, library, with_answer(bundle, tmp_path, flat))[0] == 0
    for proves_nothing in ({**flat, "tolerance": 0.0017}, {**good, "tolerance": 1.0}):
        code, said = both(built, library, with_answer(bundle, tmp_path, proves_nothing))
        assert code == SelfTestError.code
        assert "allows" in said
    more = {**good, "expected": [80.0] * (LEVELS * STEPS + 1)}
    assert both(built, library, with_answer(bundle, tmp_path, more))[0] == FormatError.code


@pytest.mark.parametrize("family", ["chronos-bolt", "chronos-t5", "chronos-2"])
def test_every_familys_base_is_asked(family: str, exported: Any, built: Path, library: Path, tmp_path: Path) -> None:
    _, bundle = exported(family)
    assert bundle.manifest.known_answer is not None
    code, said = both(built, library, with_answer(bundle, tmp_path, right(bundle, 3)))
    assert code == 0
    assert ANSWER in said
    good = right(bundle, 3)
    wrong = {**good, "expected": [*good["expected"][:2], round(good["expected"][2] + 0.5, 6)]}
    assert both(built, library, with_answer(bundle, tmp_path, wrong))[0] == SelfTestError.code
    steps = bundle.manifest.prediction_length
    each = 1 if family == "chronos-t5" else len(bundle.manifest.quantile_levels)
    longer = {**good, "expected": [80.0] * (steps * each + 1)}
    assert both(built, library, with_answer(bundle, tmp_path, longer))[0] == FormatError.code


def test_a_service_does_not_start_on_a_base_that_fails(
    built: Path, library: Path, bundle: Bundle, tmp_path: Path
) -> None:
    good = right(bundle, 3)
    wrong = {**good, "expected": [80.0] * 3}
    copy = with_answer(bundle, tmp_path, wrong)
    done = run(built / "service" / "etsa-service", "--library", library, copy, stdin="")
    assert done.returncode == 1
    assert "[320] SelfTestError: the base's known-answer test: off by" in done.stderr


def test_an_adapter_is_not_blamed_for_a_damaged_base(
    built: Path, library: Path, bundle: Bundle, tmp_path: Path
) -> None:
    """Files are not checked again, as in the unit: only the known answers see what happened to the weights."""
    copy = with_answer(bundle, tmp_path, right(bundle, 3))
    good, wrong, late = (tmp_path / name for name in ("good.etsa", "wrong.etsa", "late.etsa"))
    adapter = make_adapter(Bundle.open(copy), version=7)
    assert adapter.known_answer is not None
    good.write_bytes(encode(adapter))
    other = replace(adapter.known_answer, expected=adapter.known_answer.expected + np.float32(1))
    wrong.write_bytes(encode(replace(adapter, known_answer=other)))
    (tmp_path / "series.csv").write_text("".join(f"{number}\n" for number in KNOWN))

    def said(blob: Path) -> str:
        where = [copy, tmp_path / "series.csv", "--trust-files", "--adapter", blob]
        return run(built / "forecast_ort" / "etsa-forecast", "--library", library, *where).stderr

    assert ANSWER in said(good)
    blamed = re.search(r"\[(\d+)\] \w+: (.*)", said(wrong))
    assert blamed is not None
    assert (int(blamed[1]), blamed[2][:31]) == (SelfTestError.code, "the adapter's known-answer test")

    weights = copy / "tunable.safetensors"
    data = bytearray(weights.read_bytes())
    data[-48:] = np.full(12, 0.5, dtype="<f4").tobytes()  # of the output's biases
    weights.write_bytes(data)
    for blob in (good, wrong):
        blamed = re.search(r"\[(\d+)\] \w+: (.*)", said(blob))
        assert blamed is not None
        assert int(blamed[1]) == StorageError.code
        assert "base does not open, so the adapter could not be tested: the base's known-answer" in blamed[2]

    late.write_bytes(b"")
    service = Service(built / "service" / "etsa-service", library, bundle, late)  # a whole base still runs
    service.log("channel 0 runs the base alone")
    late.write_bytes(encode(make_adapter(bundle, version=7, tolerance=100.0)))
    service.process.send_signal(signal.SIGHUP)
    service.log("channel 0 keeps what runs: [320]")
    service.finish()


@pytest.mark.parametrize("with_adapter", [False, True])
def test_weights_that_change_under_a_service_are_noticed(
    built: Path, library: Path, bundle: Bundle, tmp_path: Path, with_adapter: bool
) -> None:
    """Written in place, as a failing flash does: the next time it is asked it fails, and it forecasts no more."""
    base = Bundle.open(with_answer(bundle, tmp_path, right(bundle, 3)))
    blob = tmp_path / "map.etsa"
    blob.write_bytes(encode(make_adapter(base, version=7)) if with_adapter else b"")
    service = Service(built / "service" / "etsa-service", library, base, blob, "--prove-every", "20ms")
    service.log("channel 0 runs")
    service.push()
    service.push()
    assert [(f["code"], f["adapter_version"]) for f in service.forecasts(1)] == [(0, 7 * with_adapter)]
    weights = base.path / "tunable.safetensors"
    with weights.open("r+b") as file:  # the bytes that the service has mapped
        file.seek(base.manifest.tensors[0].offset)
        file.write(bytes(weights.stat().st_size - base.manifest.tensors[0].offset))
    until = time.monotonic() + (2 if with_adapter else 60)
    while time.monotonic() < until:
        service.push()
        (found,) = service.forecasts(1)
        if found["code"]:
            break
    if with_adapter:  # every tensor was merged: the session has copies, so what runs is what was proven
        assert found["code"] == 0
        service.finish()
        return
    assert found["code"] == BaseMismatchError.code
    assert "was changed since it was checked" in found["error"]
    assert "quantiles" not in found
    service.push()
    rest, _ = service.finish()
    assert {f["code"] for f in rest} <= {BaseMismatchError.code}
