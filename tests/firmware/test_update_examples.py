"""firmware_examples/update: the scripts run against real agents, the units and options are checked."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from device_runtime import cli as device_cli
from device_runtime.update import service_adapt
from device_runtime.update.adapt_asked import ASKED
from device_runtime.update.disk import PosixDisk
from device_runtime.update.lock import locked
from device_runtime.update.settings import read_config
from device_runtime.update.slots import Slots
from edge_tsfm.deploy import rings
from edge_tsfm.deploy.repository import Repository
from edge_tsfm.deploy.setup import device_settings
from tests.simulators.publisher import EVERYBODY, approve_version, make_device, make_repository

from .conftest import need

EXAMPLES = Path(__file__).resolve().parents[2] / "firmware_examples" / "update"
SCRIPTS = [EXAMPLES / "usb/edge-tsfm-usb-update.sh", EXAMPLES / "mender/edge-tsfm-adapter", EXAMPLES / "rauc/hook.sh"]

HAND_OVER = EXAMPLES / "c_service/edge-tsfm-hand-over"


class Bed:
    """A monitor in a folder, and the commands as a shell script finds them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.repository: Repository = make_repository(folder, now=datetime.now(UTC))
        self.config = make_device(folder / "bed", self.repository, "bed")
        command = folder / "bin" / "edge-tsfm-device"
        command.parent.mkdir()
        command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -W ignore -m device_runtime.cli "$@"\n')
        command.chmod(0o755)

    def run(self, *arguments: object, status: int = 0, **environment: str) -> str:
        path = f"{self.folder / 'bin'}:{os.environ['PATH']}"
        config = str(self.folder / "bed" / "device.toml")
        known = {**os.environ, "PATH": path, "EDGE_TSFM_DEVICE_CONFIG": config, **environment}
        done = subprocess.run([*map(str, arguments)], capture_output=True, text=True, check=False, env=known)
        assert done.returncode == status, done.stdout + done.stderr
        return done.stdout + done.stderr

    def approve(self, version: int) -> Path:
        file = approve_version(self.repository, version).file
        rings.start(self.repository, "icu", file, EVERYBODY, who="ops")
        return next((self.repository.targets / "approved" / "icu").glob(f"{file}.*"))

    def status(self) -> dict[str, object]:
        return dict(json.loads(self.run("edge-tsfm-device", "status", "--json")))


@pytest.fixture
def bed(tmp_path: Path) -> Bed:
    return Bed(tmp_path)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_scripts_are_clean(script: Path) -> None:
    subprocess.run(["/bin/sh", "-n", str(script)], check=True)
    shellcheck = shutil.which("shellcheck")
    if shellcheck is None:
        pytest.skip("shellcheck is not installed")
    subprocess.run([shellcheck, str(script)], check=True)


@pytest.mark.parametrize("path", [p for p in sorted(EXAMPLES.rglob("*")) if p.is_file()], ids=lambda path: path.name)
def test_commands_have_the_options_they_are_used_with(path: Path) -> None:
    for verb, rest in re.findall(r"edge-tsfm-device (\w+)((?: [^\n|>)`]*)?)", path.read_text()):
        command = device_cli.cli.get_command(None, verb)  # type: ignore[arg-type]  # a lazy group needs no context
        if command is None:
            assert path.name == "README.md", f"{path.name}: no command {verb}"
            continue
        known = {name for parameter in command.params for name in parameter.opts}
        assert set(re.findall(r"--[a-z-]+", rest)) <= known, f"{path.name}: {verb}{rest}"


SERVICE = EXAMPLES.parent / "service"
UNITS = [
    path
    for folder in (EXAMPLES / "systemd", EXAMPLES / "c_service", SERVICE)
    for path in sorted(folder.iterdir())
    if path.suffix in (".service", ".timer", ".path", ".socket")
]
DROP_INS = {"edge-tsfm-update.conf": "edge-tsfm-update.service", "edge-tsfm-start.conf": "edge-tsfm.service"}


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """Every unit with its drop-in, and a program for each of theirs."""
    texts = {path.name: path.read_text() for path in UNITS}
    for name, unit in DROP_INS.items():
        texts[f"{unit}.d/{name}"] = (EXAMPLES / "c_service" / name).read_text()
    for name, text in texts.items():
        place = tmp_path / name
        place.parent.mkdir(exist_ok=True)
        place.write_text(re.sub(r"(?<==)/usr/bin/[a-z-]+", "/bin/true", text))
    return tmp_path


@pytest.mark.parametrize("unit", UNITS, ids=lambda path: path.name)
def test_units_are_well_formed(installed: Path, unit: Path) -> None:
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("systemd-analyze is not installed")
    done = subprocess.run([analyze, "verify", installed / unit.name], capture_output=True, text=True, check=False)
    said = [line for line in done.stderr.splitlines() if "edge-tsfm" in line]
    assert said == []


def test_the_service_s_unit_writes_only_where_it_may(installed: Path) -> None:
    """What it is told to write lies in folders that the unit makes and opens; its exposure is the README's figure."""
    text = (SERVICE / "edge-tsfm.service").read_text()
    (command,) = re.findall(r"^ExecStart=(.*)$", text, flags=re.MULTILINE)
    written = dict(re.findall(r"--(quality|health)-file (\S+)", command))
    assert set(written) == {"quality", "health"}
    assert {"StateDirectory=edge-tsfm edge-tsfm/state edge-tsfm/adapt", "RuntimeDirectory=edge-tsfm"} <= set(
        text.splitlines()
    )
    assert Path(written["quality"]) == Path("/var/lib/edge-tsfm/state/quality")
    assert Path(written["health"]).parent == Path("/run/edge-tsfm")
    trial = (EXAMPLES / "c_service/edge-tsfm-trial.service").read_text()
    assert f"--judge {written['health']}\n" in trial
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("systemd-analyze is not installed")
    security = [analyze, "security", "--offline=true", str(installed / "edge-tsfm.service")]
    said = subprocess.run(security, capture_output=True, text=True, check=False).stdout
    exposure = re.search(r"exposure level for edge-tsfm.service: (\d+\.\d)", said)
    assert exposure is not None, said
    (claimed,) = re.findall(r"`systemd-analyze security`: (\d+\.\d)", (EXAMPLES.parent / "README.md").read_text())
    assert float(exposure[1]) <= float(claimed) + 0.3  # releases of systemd weigh a little differently


def test_what_the_learning_service_decides_is_watched_where_it_is_written() -> None:
    """Decisions and wishes start the hand-over; what that replaces makes the service read again."""
    units = EXAMPLES / "c_service"
    (folder,) = re.findall(r" --adapt (\S+)$", (units / "edge-tsfm-adapt.service").read_text(), flags=re.MULTILINE)
    assert f" {folder.removeprefix('/var/lib/')}\n" in (SERVICE / "edge-tsfm.service").read_text()
    watched = set(re.findall(r"^Path\w+=(.*)$", (units / "edge-tsfm-adapt.path").read_text(), flags=re.MULTILINE))
    assert watched == {f"{folder}/{service_adapt.DECISION}*", f"/var/lib/edge-tsfm/state/{ASKED}"}
    read = (units / "edge-tsfm-adapted.path").read_text()
    watched = set(re.findall(r"^PathChanged=(.*)$", read, flags=re.MULTILINE))
    assert watched == {f"{folder}/{name}" for name in (service_adapt.RULES, service_adapt.OWN)}
    assert "Unit=edge-tsfm-reload.service\n" in read


def calls(names: str) -> set[str]:
    """System calls by the names of a SystemCallFilter, groups taken apart."""
    found: set[str] = set()
    for name in names.split():
        if not name.startswith("@"):
            found.add(name)
            continue
        done = subprocess.run(["systemd-analyze", "syscall-filter", name], capture_output=True, text=True, check=True)  # noqa: S607
        inner = [line.strip() for line in done.stdout.splitlines()[1:]]
        found |= calls(" ".join(line for line in inner if line and not line.startswith("#")))
    return found


def test_what_runs_before_the_service_keeps_to_its_filter(bed: Bed) -> None:
    """A process that asks for another system call is ended: the service would not start."""
    need("strace", "systemd-analyze")
    allowed: set[str] = set()
    for text in (
        (SERVICE / "edge-tsfm.service").read_text(),
        (EXAMPLES / "c_service/edge-tsfm-start.conf").read_text(),
    ):
        for names in re.findall(r"^SystemCallFilter=(.*)$", text, flags=re.MULTILINE):
            allowed = allowed - calls(names[1:]) if names.startswith("~") else allowed | calls(names)
    bed.approve(1)
    bed.run("edge-tsfm-device", "update", "--activate")
    trace = bed.folder / "trace"
    config, target = bed.folder / "bed" / "device.toml", bed.folder / "map.etsa"
    bed.run("strace", "-f", "-qq", "-o", trace, sys.executable, HAND_OVER, config, target, "--starting")
    asked = set(re.findall(r"^\d+ +(\w+)\(", trace.read_text(), flags=re.MULTILINE))
    assert {"openat", "rename"} <= asked
    assert asked <= allowed


def test_usb(bed: Bed) -> None:
    bed.approve(1)
    stick = bed.folder / "stick"
    stick.mkdir()
    config = bed.folder / "bed" / "device.toml"
    assert "copy the repository" in bed.run(SCRIPTS[0], stick, config, status=1)
    shutil.copytree(bed.repository.folder / "public", stick / "edge-tsfm")
    assert "staged (sequence 1)" in bed.run(SCRIPTS[0], stick, config)
    damaged = next((stick / "edge-tsfm/targets/approved").rglob("*.etsa"))
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"\0")
    bed.run("edge-tsfm-device", "rollback", "--reason", "again")
    assert bed.status()["state"] == "base"


def test_mender_commits_what_held_and_not_what_was_taken_back(bed: Bed) -> None:
    module, work = SCRIPTS[1], bed.folder / "work"
    (work / "files").mkdir(parents=True)
    assert bed.run(module, "NeedsArtifactReboot", work).strip() == "No"
    assert bed.run(module, "SupportsRollback", work).strip() == "Yes"
    assert "want exactly one .etsa" in bed.run(module, "ArtifactInstall", work, status=1)
    shutil.copy(bed.approve(1), work / "files" / "map.etsa")
    bed.run(module, "ArtifactInstall", work)
    assert bed.status()["state"] == "trial"
    bed.run(module, "ArtifactCommit", work)
    bed.run("edge-tsfm-device", "confirm", "--reason", "watched")
    bed.run(module, "ArtifactCommit", work)
    running = Slots(PosixDisk(bed.config.state), device_id="bed").record.runs

    shutil.copy(bed.approve(2), work / "files" / "map.etsa")
    bed.run(module, "ArtifactInstall", work)
    with locked(bed.config.state):
        Slots(PosixDisk(bed.config.state), device_id="bed").fall_back("health window", who="device")
    assert bed.status()["state"] == "confirmed"  # version 1 again
    assert "did not hold" in bed.run(module, "ArtifactCommit", work, status=1)
    assert "nothing to take back" in bed.run(module, "ArtifactRollback", work)  # Mender's next step
    assert bed.status()["state"] == "confirmed"
    assert Slots(PosixDisk(bed.config.state), device_id="bed").record.runs == running


def test_mender_takes_back_nothing_when_nothing_was_installed(bed: Bed) -> None:
    first, second = bed.folder / "first", bed.folder / "second"
    for work in (first, second):
        (work / "files").mkdir(parents=True)
    shutil.copy(bed.approve(1), first / "files" / "map.etsa")
    bed.run(SCRIPTS[1], "ArtifactInstall", first)
    bed.run("edge-tsfm-device", "confirm", "--reason", "watched")
    before = bed.status()
    (second / "files" / "map.etsa").write_bytes(b"no adapter")
    bed.run(SCRIPTS[1], "ArtifactInstall", second, status=1)
    assert "nothing to take back" in bed.run(SCRIPTS[1], "ArtifactRollback", second)
    assert "nothing to take back" in bed.run(SCRIPTS[1], "ArtifactRollback", bed.folder / "never begun")
    assert (bed.status()["state"], bed.status()["adapter"]) == ("confirmed", before["adapter"])


def test_mender_rolls_back(bed: Bed) -> None:
    work = bed.folder / "work"
    (work / "files").mkdir(parents=True)
    shutil.copy(bed.approve(1), work / "files" / "map.etsa")
    bed.run(SCRIPTS[1], "ArtifactInstall", work)
    # a state that cannot be read is an error, not "nothing to take back"
    bed.run(SCRIPTS[1], "ArtifactRollback", work, status=1, EDGE_TSFM_DEVICE_CONFIG=str(work / "no.toml"))
    bed.run(SCRIPTS[1], "ArtifactRollback", work)
    assert bed.status()["state"] == "base"


def test_the_c_service_gets_what_the_record_says(bed: Bed) -> None:
    config, target = bed.folder / "bed" / "device.toml", bed.folder / "map.etsa"

    def hand_over(status: int = 0) -> str:
        return bed.run(sys.executable, HAND_OVER, config, target, status=status)

    assert "the base alone" in hand_over()
    assert target.read_bytes() == b""
    first = bed.approve(1)
    bed.run("edge-tsfm-device", "update")
    hand_over()
    assert target.read_bytes() == b""  # staged is not running
    bed.run("edge-tsfm-device", "update", "--activate")
    assert "version 1" in hand_over()
    assert target.read_bytes() == first.read_bytes()
    made = target.stat().st_ino
    hand_over()
    assert target.stat().st_ino == made  # nothing new, nothing written
    assert (bed.status()["state"], bed.status()["tries"]) == ("trial", 2)  # what was handed over may have been started
    target.unlink()
    next((bed.config.state / "slots").iterdir()).write_bytes(b"damaged")
    assert "damaged" in hand_over()
    assert target.read_bytes() == b""
    record = Slots(PosixDisk(bed.config.state), device_id="bed").record
    assert (record.state.value, record.tries) == ("trial", 2)  # the disk's fault: no start is lost
    config.write_text("nonsense")
    assert "edge-tsfm-hand-over: " in hand_over(status=1)


def test_the_c_service_is_told_what_the_settings_say(bed: Bed) -> None:
    """The lines for its environment file: read back by systemd's rules, which expand nothing."""
    config = bed.folder / "bed" / "device.toml"
    text = config.read_text()

    def printed(changed: str, status: int = 0) -> str:
        config.write_text(changed)
        return bed.run(sys.executable, HAND_OVER, config, status=status)

    values = dict(part.split("=", 1) for part in shlex.split(printed(text)))
    first, *others = (key.hex() for key in bed.config.trusted_keys)
    scored = "--quality 4 --latency-budget 1000000us"
    usual = " ".join([*(f"--key {key}" for key in others), "--unit mm[Hg]"])
    assert values == {
        "EDGE_TSFM_KEY": first, "EDGE_TSFM_SIGNAL": "MAP", "EDGE_TSFM_INTERVAL": "1h",
        "EDGE_TSFM_OPTIONS": f"{usual} {scored}",
    }  # fmt: skip
    head = 'accept_differences = ["interval", "unit"]\n'
    odd = text.replace('signal = "MAP"', r"""signal = 'pressure of "$HOME" \ `1`'""")
    values = dict(part.split("=", 1) for part in shlex.split(printed(head + odd)))
    assert values["EDGE_TSFM_SIGNAL"] == r"""pressure of "$HOME" \ `1`"""
    wanted = f"{usual} --accept-difference interval --accept-difference unit {scored}"
    assert values["EDGE_TSFM_OPTIONS"] == wanted
    refused = printed(re.sub("threshold = 1", "threshold = 2", text), status=1)
    assert "[600] threshold 2: the C service wants one signature" in refused
    judged = (
        "[health]\nlatency_budget = 0.25\nmax_wql_vs_base_percent = 2\nmin_scored = 300\n[quality]\nshadow_every = 2\n"
    )
    values = dict(part.split("=", 1) for part in shlex.split(printed(f"{text}\n{judged}")))
    wanted = f"{usual} --quality 2 --latency-budget 250000us --max-wql-vs-base 2.0 --min-scored 300"
    assert values["EDGE_TSFM_OPTIONS"] == wanted
    refused = printed(f'{text}\n[quality]\nunit = "stay"\nlate_steps = 5\n', status=1)
    assert "[600] [quality] late_steps, unit: the C service has late_steps = 2, unit = 'block'" in refused


def test_settings_fit_the_unit(bed: Bed, tmp_path: Path) -> None:
    """The README's edit of the printed settings puts the state where the unit may write, and one unit owns it."""
    readme = (EXAMPLES / "README.md").read_text()
    edits = [part for edit in re.findall(r"-e '([^']*)'", readme) for part in ("-e", edit)]
    settings = device_settings(bed.repository, ring="icu", device_id="bed", url="https://updates.hospital.example")
    done = subprocess.run(["/bin/sed", *edits], input=settings, capture_output=True, text=True, check=True)
    (tmp_path / "device.toml").write_text(done.stdout)
    config = read_config(tmp_path / "device.toml")
    assert (config.state, config.bundle) == (Path("/var/lib/edge-tsfm/state"), Path("/usr/share/edge-tsfm/bundle"))
    unit = (EXAMPLES / "systemd/edge-tsfm-update.service").read_text()
    assert {"StateDirectory=edge-tsfm", "User=edge-tsfm", "ProtectSystem=strict"} <= set(unit.splitlines())
    for other in (EXAMPLES.parent / "service/edge-tsfm.service", EXAMPLES / "c_service/edge-tsfm-trial.service"):
        lines = set(other.read_text().splitlines())
        assert {"User=edge-tsfm", "ProtectSystem=strict", "NoNewPrivileges=yes"} <= lines
        assert any(line.startswith("StateDirectory=edge-tsfm") for line in lines)
        assert not any(line.startswith("DynamicUser") for line in lines)  # the state has one owner
    assert "u edge-tsfm " in (EXAMPLES / "systemd/edge-tsfm.conf").read_text()


def test_rauc_says_whether_the_adapter_fits_the_new_base(bed: Bed) -> None:
    slot = bed.folder / "slot"
    target = slot / "usr/share/edge-tsfm/bundle"
    assert "has no bundle" in bed.run(SCRIPTS[2], "slot-post-install", status=1, RAUC_SLOT_MOUNT_POINT=str(slot))
    shutil.copytree(bed.config.bundle, target)
    assert "same base" in bed.run(SCRIPTS[2], "slot-post-install", RAUC_SLOT_MOUNT_POINT=str(slot))
    (target / "bundle.json").write_bytes((target / "bundle.json").read_bytes() + b" ")
    assert "new base" in bed.run(SCRIPTS[2], "slot-post-install", RAUC_SLOT_MOUNT_POINT=str(slot))
    config = str(slot / "no.toml")
    said = bed.run(SCRIPTS[2], "slot-post-install", RAUC_SLOT_MOUNT_POINT=str(slot), EDGE_TSFM_DEVICE_CONFIG=config)
    assert "not known" in said  # it informs, and stops no update
