"""Every command with the wrong thing at each of its paths: exit 1 or 2 and the path in a message, no traceback."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from device_runtime import cli as device
from edge_tsfm import cli as workstation
from edge_tsfm.data.simulate import encode_table, simulate_ward

BASES = Path(__file__).resolve().parents[1] / "dummy_bases"
NOBODY = 65_534
PLAN = "[[stage]]\npermille = 1000\nsoak_hours = 0.0\n"
GATE = '[[bound]]\nmetric = "wql"\nvs_base_percent = -1.0\nvs_field_percent = 2.0\nsubgroup_percent = 5.0\n'

# A command with all its paths in braces: `new_…` are written, the others read.
COMMANDS = {
    "edge-tsfm": (
        "demo --out {new_folder}",
        "simulate --out {new_file.csv} --patients 2",
        "pretrain --config {pretrain} --out {new_folder} --validate-on {data} --target HR --base {base}"
        " --method bitfit",
        "train {data} --target HR --out {new_folder} --config {train}",
        "evaluate {run} {data} --bundle {bundle} --adapter {blob}",
        "evaluate {run} {data} --csv {new_file} --html {new_file} --plots {new_folder} --resamples 100",
        "export adapter {run} --bundle {bundle} --out {new_file} --data {data} --force",
        "export base --base {base} --out {new_folder}",
        "export base --base {base} --out bundle --adapter {run} --layout optimum",
        "export base --base {base} --out bundle --run {run} --data {data} --precision int8",
        "export learning {bundle} --base {base}",
        "export merged {run} --out {new_folder}",
        "inspect {bundle}",
        "inspect {data} --target HR --config {train}",
        "verify {blob} --bundle {bundle}",
        "forecast {bundle} {data} --target HR --adapter {blob} --out {new_file.csv}",
        "export static {bundle} --shape 16x1",
        "bench --config {config} --runs 10",
        "bench-table --config {config} --precision float32 --runs 3 --out {new_file} --html {new_file}",
        "bench --bundle {bundle} --adapter {blob} --profile {new_file} --runs 10",
        "study {study} {data} --out {new_folder}",
        "measure {base} {reports}",
        "push {run} --repo here/nothing --bundle {bundle} --adapter {blob} --force",
        "replay {data} --bundle {bundle} --adapter {blob} --against base --target HR",
        "adapt-eval {data} --bundle {bundle} --adapter {blob} --beside {blob} --target HR --config {adapt}"
        " --html {new_file}",
        "deploy approve {updates} {blob} --keys {keys} --ring icu --bundle {bundle} --evaluation {evaluation}"
        " --field-evaluation {field} --who x",
        "deploy ring {updates} icu --signal MAP --interval 1h --keys {keys}",
        "deploy device-settings {updates} icu bed-1 --url x --keys {keys}",
        "deploy downgrade {updates} icu abcd --keys {keys} --plan {plan} --who x --why y",
        "deploy envelope {updates} icu --keys {keys} --file {permit} --bundle {bundle} --evidence {proof}"
        " --who x --why y",
        "deploy halt {updates} icu --keys {keys} --who x --why y",
        "deploy init {new_folder} --keys {keys} --gate {gate}",
        "deploy keygen {new_folder}",
        "deploy publish {updates} --keys {keys}",
        "deploy refresh {updates} root --keys {keys}",
        "deploy revoke {updates} icu abcd --keys {keys} --who x --why y",
        "deploy rollout {updates} icu --keys {keys} --adapter abcd --plan {plan} --who x",
        "deploy rollout {updates} icu --keys {keys} --reports {reports} --who x",
        "deploy rotate-key {updates} root abcd --name spare --keys {keys}",
        "deploy sbom {updates} --keys {keys} --out {new_file}",
        "deploy status {updates} --keys {keys}",
    ),
    "edge-tsfm-device": (
        "forecast {bundle} --adapter {blob} --input {series} --target HR --output {new_file}",
        "stream {bundle} --adapter {blob} --signal HR:20:250",
        "stream --config {device} --signal HR:20:250",
        "selftest {bundle} --adapter {blob}",
        "install {blob} --config {device}",
        "status --config {device}",
        "quality --config {device}",
        "adapt status --config {device}",
        "adapt log --config {device}",
        "adapt promote --config {device} --reason x",
        "adapt demote --config {device} --reason x",
        "adapt reset --config {device} --reason x",
        "adapt export --config {device} --out {new_own} --key {key}",
        "adapt replay {feed} --config {device}",
        "confirm --config {device} --reason x",
        "rollback --config {device} --reason x",
        "update --config {device}",
        "audit export --config {device} --out {new_file}",
        "audit verify {log}",
        "bench {bundle} --adapter {blob}",
        "providers {bundle}",
        "prove {bundle} --adapter {blob} --provider nothing",
    ),
}  # fmt: skip
# Options whose files are tried elsewhere, since a good one needs another program.
ELSEWHERE = {
    "library": "a plugin of ONNX Runtime: tests/device_runtime/cli/test_providers.py",
    "health": "written by the C service: tests/firmware/test_adapt_commands.py",
}
FOLDERS = {"run", "bundle", "base", "updates", "keys", "reports"}
EITHER = {"data"}  # a file or a folder
READ = ("missing", "a folder", "a file", "empty", "junk", "half a JSON", "a folder of junk", "unreadable")
WRITTEN = ("a folder", "a file", "under a file", "unwritable")
FORBIDDEN = ("unreadable", "unwritable")
# What is right although it looks wrong.
RIGHT = {
    ("keys", "ring"): "what a ring forecasts is the repository's own setting; needs no key",
    ("keys", "status"): "says what is published; needs no key",
    ("keys", "device-settings"): "public keys are in the repository",
    ("keys", "sbom"): "needs no key",
    ("keys", "halt"): "nothing is rolled out, which comes before any signature",
    ("keys", "revoke"): "nothing of that name, which comes before any signature",
    ("keys", "downgrade"): "nothing of that name, which comes before any signature",
    ("keys", "rollout"): "nothing of that name, which comes before any signature",
    ("reports", "rollout"): "nothing is rolled out, which comes before any report",
    ("keys", "approve"): "the evaluation is of no run, which comes before any signature",
    ("keys", "envelope"): "the bundle has no learning graphs, which comes before any signature",
    ("key", "export"): "nothing that was learnt runs, which comes before any signature",
    ("new_own", "export"): "nothing that was learnt runs, which comes before any file",
    ("feed", "replay"): "the monitor does not learn, which comes before any sample",
    ("keys", "rotate-key"): "no key of that id, which comes before any signature",
    ("evaluation", "approve"): "the adapter says no signal, which comes first",
    ("field", "approve"): "the first evaluation is of no run, which comes first",
}


@pytest.fixture(scope="module")
def good() -> Iterator[dict[str, Path]]:
    """One good thing for every name in braces, where an unprivileged user can read it."""
    place = Path(tempfile.mkdtemp(prefix="wrong-paths-"))
    place.chmod(0o755)
    things = {name: place / name for name in ("run", "keys", "updates", "reports")}
    frame = simulate_ward(
        patients=60, hours=48, site="A", seed=0, interval="1h", signals=["HR"], on_patient=lambda: None
    )
    things["data"] = place / "ward.csv"
    things["data"].write_bytes(encode_table(frame, things["data"]))
    things["series"] = place / "series.csv"
    things["series"].write_text("HR\n" + "".join(f"{70 + step % 5}\n" for step in range(40)))
    things["base"] = shutil.copytree(BASES / "chronos-bolt", place / "base")
    things["bundle"] = shutil.copytree(BASES / "chronos-bolt-bundle", place / "bundle")
    things["blob"] = Path(shutil.copy(BASES / "chronos-bolt.etsa", place / "blob.etsa"))
    things["config"] = place / "base" / "config.json"
    texts = {
        "train": "steps = 2\n",
        "pretrain": 'name = "x"\n[optimiser]\nsteps = 1\n',
        "study": 'targets = ["HR"]\nmethods = ["bitfit"]\n[train]\nsteps = 1\n',
        "plan": PLAN,
        "gate": GATE,
        "evaluation": '{"models": {"adapter": {}, "base": {}}}',
        "field": '{"models": {"adapter": {}, "base": {}}}',
        "log": "",
        "key": "",
        "feed": "RESP,0,1\n",
        "permit": 'enabled_by = ["A"]\n[rules]\nmode = "shadow"\n'
        '[plan]\nchanges = "a"\nverification = "b"\nimpact = "c"\n',
        "proof": json.dumps({"bundle": "", "split": "", "mode": "", "rules": {}, "lengths": {}, "overall": []}),
        "adapt": '[adapt]\nmode = "shadow"\n',
    }
    for name, text in texts.items():
        things[name] = place / f"{name}.toml"
        things[name].write_text(text)
    things["reports"].mkdir()
    train = ["train", things["data"], "--target", "HR", "--base", things["base"], "--method", "bitfit", "--steps", "5",
             "--learning-rate", "0.3",
             "--context-length", "24", "--prediction-length", "4", "--out", things["run"], "--force"]  # fmt: skip
    deploy = (
        train,
        ["deploy", "keygen", things["keys"]],
        ["deploy", "init", things["updates"], "--keys", things["keys"], "--gate", things["gate"]],
        ["deploy", "ring", things["updates"], "icu", "--signal", "HR", "--interval", "1h"],
    )
    for command in deploy:
        done = CliRunner().invoke(workstation.cli, [str(word) for word in command])
        assert done.exit_code == 0, done.output
    settings = CliRunner().invoke(
        workstation.cli,
        ["deploy", "device-settings", str(things["updates"]), "icu", "bed-1", "--url", "updates/public"],
    )
    assert settings.exit_code == 0, settings.output
    things["device"] = place / "device.toml"
    things["device"].write_text(settings.stdout)
    yield things
    shutil.rmtree(place)


def commands() -> Iterator[tuple[str, str]]:
    for program, templates in COMMANDS.items():
        for template in templates:
            yield program, template


def cases() -> Iterator[object]:
    for program, template in commands():
        for number, name in enumerate(re.findall(r"{(.*?)}", template)):
            for kind in WRITTEN if name.startswith("new_") else READ:
                verb = " ".join(word for word in template.split()[:2] if word.isalpha())
                yield pytest.param(program, template, number, name, kind, id=f"{program} {verb} {name}, {kind}")


@pytest.mark.exhaustive
@pytest.mark.parametrize(("program", "template", "number", "name", "kind"), cases())
def test_a_wrong_path_is_named(
    program: str,
    template: str,
    number: int,
    name: str,
    kind: str,
    good: dict[str, Path],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    place = good["data"].parent / "case"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    place.chmod(0o777)  # an unprivileged user writes here, too
    wrong = make(place / "wrong-thing", name, kind, good)
    if wrong is None:
        pytest.skip("that is the right kind here")
    taken = iter(range(99))

    def fill(match: re.Match[str]) -> str:
        return str(wrong if next(taken) == number else good.get(match[1], place / match[1]))

    arguments = re.sub(r"{(.*?)}", fill, template).split()
    with as_nobody() if kind in FORBIDDEN else as_before():
        status, said = call(program, arguments, monkeypatch, capfd)
    verb = (
        template.split()[1]
        if template.startswith(("deploy", "audit", "export", "adapt "))
        else template.split(maxsplit=1)[0]
    )
    if (name, verb) in RIGHT or (name.startswith("new_") and status == 0):
        return
    assert status in (1, 2), said
    # Another user may not write to the repository either, and that may come first.
    assert "wrong-thing" in said or (kind in FORBIDDEN and "Permission denied" in said)


def call(
    program: str, arguments: list[str], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> tuple[int, str]:
    """Call a program as its user does; whatever it does not say itself comes out as the exception it is."""
    monkeypatch.setattr(sys, "argv", [program, *arguments])
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    module = workstation if program == "edge-tsfm" else device
    capfd.readouterr()
    with pytest.raises(SystemExit) as ended:
        module.main()
    code = ended.value.code
    printed = capfd.readouterr()
    return code if isinstance(code, int) else int(code is not None), printed.out + printed.err


def make(wrong: Path, name: str, kind: str, good: dict[str, Path]) -> Path | None:
    """Put the wrong thing there; None where it would be the right one."""
    folder = name in FOLDERS or name.startswith("new_folder")
    match kind:
        case "a folder":
            if folder or name in EITHER:
                return None
            wrong.mkdir()
        case "a file":
            if not folder:
                return None
            wrong.write_text("just a file\n")
        case "empty":
            if name in {"log", "train"}:  # no entry, no option: as good as any
                return None
            if folder:
                wrong.mkdir()
            else:
                wrong.touch()
        case "junk":
            wrong.write_bytes(bytes(range(256)) * 20)
        case "half a JSON":
            wrong.write_text('{"models": {"adapter": ')
        case "a folder of junk":
            if not folder and name not in EITHER:
                return None
            wrong.mkdir()
            for file in ("bundle.json", "run.json", "deploy.json", "config.json", "model.safetensors", "keys.json",
                         "tunable.safetensors", "tuned.safetensors", "a.csv"):  # fmt: skip
                (wrong / file).write_bytes(b'{"a": [1, 2}\x00\xff')
        case "unreadable":
            source = good[name]
            copy = shutil.copytree if source.is_dir() else shutil.copy
            copy(source, wrong)
            wrong.chmod(0)
        case "under a file":
            wrong.write_text("just a file\n")
            return wrong / "inside"
        case "unwritable":
            wrong.mkdir(mode=0o555)
            return wrong / "inside"
    return wrong


@contextmanager
def as_before() -> Iterator[None]:
    yield


@contextmanager
def as_nobody() -> Iterator[None]:
    """Root may read everything: take another user's rights meanwhile."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


def test_every_path_of_every_command_is_in_the_table() -> None:
    for program, module in (("edge-tsfm", workstation), ("edge-tsfm-device", device)):
        for words, command in walk(module.cli, []):
            used = " ".join(t for t in COMMANDS[program] if t.split()[: len(words)] == words)
            for parameter in command.params:
                if isinstance(parameter.type, click.Path | click.File):
                    option = isinstance(parameter, click.Option)
                    assert used, words
                    there = any(name in used for name in parameter.opts) or parameter.name in ELSEWHERE
                    assert not option or there, (words, parameter.name)


def walk(group: click.Group, before: list[str]) -> Iterator[tuple[list[str], click.Command]]:
    for name in group.list_commands(click.Context(group)):
        command = group.get_command(click.Context(group), name)
        assert command is not None
        if isinstance(command, click.Group):
            yield from walk(command, [*before, name])
        else:
            yield [*before, name], command
