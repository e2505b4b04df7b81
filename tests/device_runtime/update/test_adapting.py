"""A monitor learns in shadow, promotes what it has proven, names it in every forecast, and takes it back."""

from __future__ import annotations

import json
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np

from device_runtime.adapt.modes import Mode
from device_runtime.update.audit import read_lines
from device_runtime.update.settings import read_config
from device_runtime.update.slots import slots_of
from tests.simulators.learning_bed import (
    BUNDLE,
    HOUR,
    PUBLIC,
    QUICK,
    WHO,
    LearningBed,
    envelope_for,
    signed,
)
from tests.support.linear import ward

LEARNING = BUNDLE.with_name("chronos-bolt-learning")


def test_from_shadow_to_a_promotion_and_back(tmp_path: Path) -> None:
    bed = LearningBed(tmp_path)
    assert bed.forecast().adapter is None
    stays = bed.until_own()
    assert 12 <= stays <= 60
    own = bed.record.own
    assert own is not None
    forecast = bed.forecast()
    assert (forecast.adapter, forecast.generation) == (own.adapter, own.sequence)
    promoted = list(read_lines(bed.slots.audit.export()))[-1].body
    assert promoted["event"] == "promote"
    assert promoted["learnt"]["evidence"] >= 20
    assert promoted["learnt"]["candidate_percent"] < 0
    again = bed.start()
    assert again.forecast([14.0] * 23 + [15.0]).adapter == own.adapter
    bed.slots.demote("by hand", who="operator")
    assert bed.forecast().adapter is None
    assert bed.forecast().generation is None


def test_in_shadow_nothing_is_ever_promoted(tmp_path: Path) -> None:
    bed = LearningBed(tmp_path, mode=Mode.SHADOW)
    assert bed.until_own(60) > 60
    assert bed.forecast().adapter is None
    assert bed.host._adapting.facts()["verdict"] == "promote"


def test_the_stream_command_learns_with_the_bundle_s_own_graph(tmp_path: Path) -> None:
    """Stays one behind another, each with its end; the monitor learns from them behind the last line."""
    bundle = tmp_path / "bundle"
    shutil.copytree(BUNDLE, bundle)
    for path in LEARNING.iterdir():
        shutil.copy(path, bundle)
    names = json.loads((bundle / "learning.json").read_text())["names"]
    rules = {**QUICK, "promote_stays": 2}
    settings = tmp_path / "device.toml"
    settings.write_text(
        'device_id = "bed"\nring = "icu"\nsignal = "RESP"\ninterval = "1h"\nbundle = "bundle"\nstate = "state"\n'
        f'trusted_keys = ["{PUBLIC.hex()}"]\n[adapt]\nmode = "active"\nenabled_by = "{WHO}"\n'
        "ms_per_minute = 60000\ncontext_length = 24\n" + "".join(f"{name} = {value}\n" for name, value in rules.items())
    )
    settings.chmod(stat.S_IRUSR | stat.S_IWUSR)
    envelope = envelope_for(bundle, tensors=tuple(names), rules=rules)
    slots_of(read_config(settings)).permit(signed(envelope), envelope, who="test")
    lines, t_ms = [], 0
    for number, values in enumerate(ward(16, seed=3, drift=0.4, steps=40)):
        for value in values:
            t_ms += HOUR
            lines += [f"RESP,{t_ms},{value:.3f},case-{number}"] if np.isfinite(value) else []
    lines.append(f"RESP,{t_ms},end")
    command = [sys.executable, "-m", "device_runtime.cli"]
    stream = [*command, "stream", "--signal", "RESP:0:250", "--interval", "1h", "--context-length", "24"]
    done = subprocess.run(
        [*stream, "--config", str(settings)], input="\n".join(lines), capture_output=True, text=True, check=True
    )
    made = [json.loads(line) for line in done.stdout.splitlines()]
    assert json.loads(done.stderr.splitlines()[-1])["counts"]["ended"] == 16
    assert all(line["adapter"] is None for line in made if "error" not in line)
    said = subprocess.run(
        [*command, "adapt", "status", "--config", str(settings), "--json"], capture_output=True, text=True, check=True
    )
    value = json.loads(said.stdout)
    assert (value["mode"], value["problem"]) == ("active", "")
    assert value["learnt"]["stays"] == 16
    assert value["learnt"]["steps"] > 20
    assert "case-3" not in "".join(
        path.read_bytes().decode("latin-1") for path in (tmp_path / "state").rglob("*") if path.is_file()
    )
