"""From keys to a second monitor on a new adapter, then revoked: the commands an operator types."""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from device_runtime.cli import cli as device_cli
from edge_tsfm.cli import cli
from tests.simulators.publisher import BUNDLE, GATE, adapter_blob, evaluation, write_json

PLAN = """
[[stage]]
permille = 0
groups = ["canary"]
min_reports = 1
soak_hours = 0.0
approval = true
[[stage]]
permille = 1000
groups = ["canary"]
min_reports = 2
soak_hours = 0.0
"""


def run(command: object, *arguments: object, status: int = 0) -> str:
    result = CliRunner().invoke(command, [str(argument) for argument in arguments])  # type: ignore[arg-type]
    if result.exception and not isinstance(result.exception, SystemExit):
        if status == 1:
            return f"{type(result.exception).__name__}: {result.exception}"
        raise result.exception
    assert result.exit_code == status, result.output
    return result.output


def test_operator(tmp_path: Path) -> None:
    repository, keys = tmp_path / "repository", tmp_path / "keys"
    (tmp_path / "gate.toml").write_text(GATE)
    (tmp_path / "plan.toml").write_text(PLAN)
    run(cli, "deploy", "keygen", keys)
    run(cli, "deploy", "init", repository, "--keys", keys, "--gate", tmp_path / "gate.toml")

    described = run(
        cli, "deploy", "ring", repository, "icu", "--signal", "abpmean", "--interval", "60min", "--keys", keys
    )
    assert described == "icu: MAP in mm[Hg] every 1h\n"
    configs = []
    for name in ("bed-1", "bed-2"):
        settings = run(
            cli, "deploy", "device-settings", repository, "icu", name, "--keys", keys, "--url", repository / "public"
        )
        folder = tmp_path / name
        folder.mkdir()
        settings = settings.replace('"bundle"', f'"{BUNDLE}"') + f'report_to = "{tmp_path / "reports"}"\n'
        (folder / "device.toml").write_text(settings + ('groups = ["canary"]\n' if name == "bed-1" else ""))
        (folder / "root.json").write_bytes((repository / "public/metadata/1.root.json").read_bytes())
        configs.append(folder / "device.toml")
    assert "nothing is rolled out" in run(device_cli, "update", "--config", configs[0])

    (tmp_path / "map.etsa").write_bytes(adapter_blob(1))
    judged = write_json(tmp_path / "evaluation.json", evaluation())
    approved = json.loads(
        run(
            cli, "deploy", "approve", repository, tmp_path / "map.etsa", "--keys", keys, "--ring", "icu",
            "--bundle", BUNDLE, "--evaluation", judged, "--who", "quality", "--json",
        )
    )  # fmt: skip
    assert Path(approved["record"]).with_suffix(".html").exists()
    name = approved["adapter"]
    rollout = ("deploy", "rollout", repository, "icu", "--keys", keys, "--who", "ops")
    run(cli, *rollout, "--adapter", name[:12], "--plan", tmp_path / "plan.toml")

    assert "trial (sequence 1)" in run(device_cli, "update", "--config", configs[0], "--activate")
    assert "not among" in run(device_cli, "update", "--config", configs[1], "--activate")
    run(device_cli, "confirm", "--config", configs[0], "--reason", "watched for an hour")
    assert "up to date" in run(device_cli, "update", "--config", configs[0])
    assert "a person must approve" in run(cli, *rollout, "--reports", tmp_path / "reports")
    assert "advance" in run(cli, *rollout, "--reports", tmp_path / "reports", "--approve")
    assert "trial (sequence 1)" in run(device_cli, "update", "--config", configs[1], "--activate")
    run(device_cli, "confirm", "--config", configs[1], "--reason", "watched for an hour")
    status = json.loads(run(device_cli, "status", "--config", configs[1], "--json"))
    assert (status["state"], status["adapter"], status["sequence"]) == ("confirmed", approved["adapter"], 1)

    run(cli, "deploy", "revoke", repository, "icu", name[:12], "--keys", keys, "--who", "ops", "--why", "complaint")
    for config in configs:
        assert "rolled back" in run(device_cli, "update", "--config", config)
        status = json.loads(run(device_cli, "status", "--config", config, "--json"))
        assert (status["state"], status["adapter"]) == ("base", None)
    assert "revoked" in run(cli, "deploy", "status", repository, "--keys", keys)

    log = tmp_path / "audit.log"
    run(device_cli, "audit", "export", "--config", configs[1], "--out", log)
    assert "unbroken" in run(device_cli, "audit", "verify", log, "--head", status["audit_head"])
    log.write_bytes(log.read_bytes().replace(b"watched", b"watchad"))
    assert "chain is broken" in run(device_cli, "audit", "verify", log, status=1)


@pytest.mark.parametrize(
    "verb",
    [
        "keygen",
        "init",
        "approve",
        "publish",
        "rollout",
        "status",
        "halt",
        "revoke",
        "downgrade",
        "rotate-key",
        "refresh",
        "sbom",
    ],
)
def test_every_verb_explains_itself(verb: str) -> None:
    assert len(run(cli, "deploy", verb, "--help")) > 150


def test_every_verb_speaks_json(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each verb once, on one repository, with keys found through the environment in two folders."""
    keys, stick, repository = tmp_path / "keys", tmp_path / "stick", tmp_path / "repository"
    (tmp_path / "gate.toml").write_text(GATE)
    stick.mkdir()

    def say(*arguments: object) -> dict[str, Any]:
        return dict(json.loads(run(cli, "deploy", *arguments, "--json")))

    assert set(say("keygen", keys)) == {"root", "targets", "quality", "rollout", "online", "adapter"}
    (keys / "quality-2.pem").rename(stick / "quality-2.pem")
    monkeypatch.setenv("EDGE_TSFM_KEYS", f"{keys}:{stick}")
    assert len(say("init", repository, "--gate", tmp_path / "gate.toml")["gate"]) == 64
    assert say("ring", repository, "icu", "--signal", "MAP", "--interval", "1h")["unit"] == "mm[Hg]"
    names = []
    for version in (1, 2):
        (tmp_path / "map.etsa").write_bytes(adapter_blob(version))
        figures = write_json(tmp_path / "evaluation.json", evaluation())
        facts = ["--ring", "icu", "--bundle", BUNDLE, "--evaluation", figures, "--who", "q"]
        approved = say("approve", repository, tmp_path / "map.etsa", *facts, "--field-evaluation", figures)
        names.append(approved["adapter"])
        assert say("rollout", repository, "icu", "--adapter", names[-1][:8], "--who", "ops")["action"] == "start"
    assert say("rollout", repository, "icu", "--pause", "--who", "ops")["action"] == "pause"
    assert say("rollout", repository, "icu", "--resume", "--who", "ops")["action"] == "resume"
    because = ["--who", "ops", "--why", "test"]
    assert say("halt", repository, "icu", *because) == {"ring": "icu", "channel": "icu", "halted": True}
    assert say("revoke", repository, "icu", names[1][:8], *because)["revoked"] == names[1]
    assert say("downgrade", repository, "icu", names[0][:8], *because)["sequence"] == 3
    old = json.loads((repository / "deploy.json").read_text())["keys"]["quality"][0]["keyid"]
    assert say("rotate-key", repository, "quality", old[:8], "--name", "quality-3")["old"] == old
    assert say("refresh", repository, "targets")["role"] == "targets"
    assert say("publish", repository)["days_left"] == {}
    status = say("status", repository)
    assert status["rings"]["icu"]["rollout"]["adapter"] == names[0]
    run(cli, "deploy", "sbom", repository, "--out", tmp_path / "sbom.json")


WITH_KEYS, BECAUSE = ["--keys", "keys"], ["--who", "x", "--why", "y"]
REFUSALS: dict[str, tuple[list[str], str]] = {
    "keys over keys": (["keygen", "keys"], "already exists"),
    "a repository over a repository": (["init", "repository", *WITH_KEYS, "--gate", "gate.toml"], "already"),
    "no such repository": (["status", "nowhere"], "is not an update repository"),
    "an unknown role": (["refresh", "repository", "nonesuch", *WITH_KEYS], "there is no role"),
    "an unknown key": (["rotate-key", "repository", "root", "ffff", "--name", "x", *WITH_KEYS], "0 keys start"),
    "adapter keys": (["rotate-key", "repository", "adapter", "ffff", "--name", "x", *WITH_KEYS], "settings"),
    "nothing to halt": (["halt", "repository", "icu", *BECAUSE, *WITH_KEYS], "nothing is rolled"),
    "nothing to revoke": (["revoke", "repository", "icu", "abcd", *BECAUSE, *WITH_KEYS], "no adapter is approved"),
    "a short hash": (["revoke", "repository", "icu", "", *BECAUSE, *WITH_KEYS], "no adapter is approved"),
    "nothing to downgrade": (
        ["downgrade", "repository", "icu", "abcd", *BECAUSE, *WITH_KEYS],
        "no adapter is approved",
    ),
    "nothing to step": (["rollout", "repository", "icu", "--reports", ".", "--who", "x", *WITH_KEYS], "none"),
    "keys that are away": (["publish", "repository", "--keys", "nowhere"], "signed by 0/1 keys"),
    "a ring elsewhere": (["halt", "repository", "../x", *BECAUSE, *WITH_KEYS], "ring"),
}


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("refusals")
    (folder / "gate.toml").write_text(GATE)
    run(cli, "deploy", "keygen", folder / "keys")
    run(cli, "deploy", "init", folder / "repository", "--keys", folder / "keys", "--gate", folder / "gate.toml")
    return folder


@pytest.mark.parametrize("name", REFUSALS)
def test_what_would_leave_a_repository_unusable_is_refused(
    empty: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments, why = REFUSALS[name]
    monkeypatch.chdir(empty)
    before = {path: path.read_bytes() for path in (empty / "repository").rglob("*.json")}
    assert why in run(cli, "deploy", *arguments, status=1)
    assert {path: path.read_bytes() for path in (empty / "repository").rglob("*.json")} == before


def test_one_adapter_has_one_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The publisher's commands, records and bill of materials call an adapter what forecasts and monitors call it."""
    keys, repository, bed = tmp_path / "keys", tmp_path / "repository", tmp_path / "bed"
    monkeypatch.setenv("EDGE_TSFM_KEYS", str(keys))
    (tmp_path / "gate.toml").write_text(GATE)
    (tmp_path / "plan.toml").write_text("[[stage]]\npermille = 1000\nsoak_hours = 0.0\n")
    run(cli, "deploy", "keygen", keys)
    run(cli, "deploy", "init", repository, "--gate", tmp_path / "gate.toml")
    run(cli, "deploy", "ring", repository, "icu", "--signal", "MAP", "--interval", "1h", "--keys", keys)
    bed.mkdir()
    settings = run(cli, "deploy", "device-settings", repository, "icu", "bed-1", "--url", repository / "public")
    config = bed / "device.toml"
    config.write_text(settings.replace('"bundle"', f'"{BUNDLE}"') + f'report_to = "{tmp_path / "reports"}"\n')
    (bed / "root.json").write_bytes((repository / "public/metadata/1.root.json").read_bytes())
    figures = write_json(tmp_path / "evaluation.json", evaluation())
    said, names, signed = [], [], []
    for version in (1, 2):
        blob = tmp_path / f"map-{version}.etsa"
        blob.write_bytes(adapter_blob(version))
        names.append(sha256(blob.read_bytes()).hexdigest())
        facts = ["--ring", "icu", "--bundle", BUNDLE, "--evaluation", figures, "--who", "q"]
        said.append(run(cli, "deploy", "approve", repository, blob, *facts, "--field-evaluation", figures))
        signed.append(max((repository / "public/targets").rglob("*.etsa"), key=lambda path: path.stat().st_mtime_ns))
        plan = ["--plan", tmp_path / "plan.toml", "--who", "ops"]
        said.append(run(cli, "deploy", "rollout", repository, "icu", "--adapter", names[-1][:12], *plan))
        assert "trial" in run(device_cli, "update", "--config", config, "--activate")
        said.append(run(device_cli, "confirm", "--config", config, "--reason", "test"))
        assert names[-1][:16] in said[-1]
        said.append(run(cli, "deploy", "status", repository))
    because = ["--who", "ops", "--why", "test"]
    said.append(run(cli, "deploy", "downgrade", repository, "icu", names[0][:12], *because, *plan[:2]))
    said.append(run(cli, "deploy", "revoke", repository, "icu", names[1][:12], *because))
    said.append(run(device_cli, "update", "--config", config))
    said.append(run(device_cli, "status", "--config", config))
    said.append(run(cli, "deploy", "status", repository))
    said.append((repository / "decisions/icu.jsonl").read_text())
    said.append(run(device_cli, "audit", "export", "--config", config))
    whole = "\n".join(said)
    files = [sha256(path.read_bytes()).hexdigest() for path in signed]
    assert len(set(files)) == 2
    for name, file in zip(names, files, strict=True):
        assert name[:16] in whole
        assert file[:12] not in whole
    status = json.loads(run(cli, "deploy", "status", repository, "--json"))["rings"]["icu"]
    assert {one["adapter"]: one["signed_file"] for one in status["approved"]} == dict(zip(names, files, strict=True))
    assert status["revoked"] == [names[1]]
    assert [one["revoked"] for one in status["approved"]] == [True, False]  # by sequence: the first came again
    assert (status["rollout"]["adapter"], status["rollout"]["before"]) == (names[0], None)
    run(cli, "deploy", "sbom", repository, "--out", tmp_path / "sbom.json")
    models = [
        one
        for one in json.loads((tmp_path / "sbom.json").read_text())["components"]
        if one["name"].startswith("adapter")
    ]
    assert {one["hashes"][0]["content"] for one in models} == set(names)
    for record in (repository / "records").glob("*-approved.html"):
        for file in files:  # as a detail, named as what it is
            where = record.read_text().find(file)
            assert where < 0 or "signed file" in record.read_text()[max(0, where - 120) : where]


def test_a_ledger_of_an_older_release_learns_the_names(tmp_path: Path) -> None:
    """Rings of before do not say which blob is in a signed file: it is read from what is published."""
    keys, repository = tmp_path / "keys", tmp_path / "repository"
    (tmp_path / "gate.toml").write_text(GATE)
    run(cli, "deploy", "keygen", keys)
    run(cli, "deploy", "init", repository, "--keys", keys, "--gate", tmp_path / "gate.toml")
    run(cli, "deploy", "ring", repository, "icu", "--signal", "MAP", "--interval", "1h", "--keys", keys)
    (tmp_path / "map.etsa").write_bytes(adapter_blob(1))
    figures = write_json(tmp_path / "evaluation.json", evaluation())
    facts = ["--ring", "icu", "--bundle", BUNDLE, "--evaluation", figures, "--who", "q", "--keys", keys]
    run(cli, "deploy", "approve", repository, tmp_path / "map.etsa", *facts)
    ledger = repository / "channels/icu.json"
    value = json.loads(ledger.read_text())
    del value["adapters"]
    ledger.write_text(json.dumps(value))
    status = json.loads(run(cli, "deploy", "status", repository, "--json", "--keys", keys))
    name = sha256(adapter_blob(1)).hexdigest()
    assert [one["adapter"] for one in status["rings"]["icu"]["approved"]] == [name]


@pytest.mark.parametrize(
    ("gate", "said"),
    [
        ({"accepted": True, "forced": False, "reason": "WQL 6 % lower"}, "Accepted by the gate on validation data"),
        ({"accepted": False, "forced": False, "reason": "WQL 1 % lower"}, "NOT ACCEPTED: the gate refused this run"),
        ({"accepted": False, "forced": True, "reason": "WQL 1 % lower"}, "ACCEPTED BY HAND (--force)"),
        (None, "No gate has judged this."),
        ("nonsense", "No gate has judged this."),
    ],
)
def test_the_record_has_the_runs_own_verdict_and_says_which_gate_decides(
    tmp_path: Path, gate: object, said: str
) -> None:
    keys, repository = tmp_path / "keys", tmp_path / "repository"
    (tmp_path / "gate.toml").write_text(GATE)
    run(cli, "deploy", "keygen", keys)
    run(cli, "deploy", "init", repository, "--keys", keys, "--gate", tmp_path / "gate.toml")
    run(cli, "deploy", "ring", repository, "icu", "--signal", "MAP", "--interval", "1h", "--keys", keys)
    (tmp_path / "map.etsa").write_bytes(adapter_blob(1))
    figures = evaluation()
    figures["run"]["gate"] = gate
    figures["adapter_minus_base"]["wql"]["relative"] = {"value": -0.06, "low": -0.08, "high": -0.04}
    facts = ["--bundle", BUNDLE, "--evaluation", write_json(tmp_path / "evaluation.json", figures), "--who", "q"]
    run(cli, "deploy", "approve", repository, tmp_path / "map.etsa", "--ring", "icu", "--keys", keys, *facts)
    (page,) = (repository / "records").glob("*.html")
    text = page.read_text()
    block = next(line for line in text.splitlines() if said in line)
    assert "beats its frozen base: WQL -6.00 % (-8.00 to -4.00)" in block
    assert "decided by the gate below" in text
    assert "anything to judge: approved.</strong>" in text
