"""From keys to a second monitor on a new adapter, then revoked: the commands an operator types."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from publisher import BUNDLE, GATE, adapter_blob, evaluation, write_json

from device_runtime.cli import cli as device_cli
from edge_tsfm.cli import cli

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
            cli, "deploy", "approve", repository, tmp_path / "map.etsa", "--keys", keys, "--channel", "icu",
            "--bundle", BUNDLE, "--evaluation", judged, "--who", "quality", "--json",
        )
    )  # fmt: skip
    assert Path(approved["record"]).with_suffix(".html").exists()
    file = approved["file"]
    rollout = ("deploy", "rollout", repository, "icu", "--keys", keys, "--who", "ops")
    run(cli, *rollout, "--adapter", file[:12], "--plan", tmp_path / "plan.toml")

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

    run(cli, "deploy", "revoke", repository, "icu", file[:12], "--keys", keys, "--who", "ops", "--why", "complaint")
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
