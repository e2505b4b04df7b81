"""Reports of broken or hostile machines, and settings that would leak or mislead."""

from __future__ import annotations

import dataclasses
import os
import socket
import threading
from http.server import BaseHTTPRequestHandler

import pytest

from device_runtime.errors import FormatError, OfflineError, SettingsError
from device_runtime.update.report import report_of, send
from device_runtime.update.rollout import decode
from device_runtime.update.settings import read_config
from edge_tsfm.deploy import rings
from edge_tsfm.errors import DeployError
from tests.simulators.publisher import (
    write_json,
)
from tests.simulators.server import Bed, answering


def test_reports_of_broken_or_hostile_machines_are_passed_over(bed: Bed) -> None:
    bed.offer(1)
    reports = bed.folder / "reports"
    reports.mkdir(exist_ok=True)
    good = {"device": "a", "channel": "icu", "sequence": 1, "candidate_sequence": None, "failed_sequence": -1}
    write_json(reports / "0.json", {**good, "generation": 2})
    write_json(reports / "1.json", {**good, "generation": 1, "failed_sequence": 1})  # the same device, earlier
    (reports / "2.json").write_bytes(b"[" * 16_000)
    (reports / "3.json").write_bytes(b" " * 1_000_000)
    (reports / "4.json").write_bytes(b"\xff\xfe")
    (reports / "5.json").write_bytes(b'"text"')
    (reports / "6.json").symlink_to(reports / "nowhere")
    os.mkfifo(reports / "7.json")
    (reports / "8.json").mkdir()
    write_json(reports / "9.json", {"device": 5})
    assert [report["device"] for report in rings.read_reports(reports)] == ["a"]
    decision = rings.step(bed.publisher, "icu", reports, who="ops")
    assert (decision.confirmed, decision.failed) == (1, 0)


def test_a_report_folder_that_is_not_there_is_an_error(bed: Bed) -> None:
    bed.offer(1)
    with pytest.raises(DeployError, match="not a folder of reports"):
        rings.step(bed.publisher, "icu", bed.folder / "nowhere", who="ops")


def test_a_report_endpoint_that_talks_nonsense_does_not_end_a_poll(bed: Bed) -> None:
    bed.offer(1)
    server = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        connection, _ = server.accept()
        connection.recv(65_536)
        connection.sendall(b"\x00\x01 garbage\r\n\r\n")
        connection.close()

    threading.Thread(target=serve, daemon=True).start()
    bed.config = dataclasses.replace(bed.config, report_to=f"http://127.0.0.1:{server.getsockname()[1]}/r")
    outcome = bed.poll()
    server.close()
    assert outcome.action == "trial"
    assert "report to" in outcome.report_failed


def test_a_token_is_for_one_address(bed: Bed) -> None:
    seen = []

    def answer(handler: BaseHTTPRequestHandler) -> None:
        seen.append((handler.path, handler.headers.get("Authorization")))
        handler.send_response(302)
        handler.send_header("Location", "/elsewhere")
        handler.end_headers()

    report = report_of(bed.slots, ring="icu", base="0")
    with answering(answer) as url, pytest.raises(OfflineError, match="302"):
        send(report, f"{url}/r", token="secret")  # noqa: S106 - not one
    assert seen == [("/r", "Bearer secret")]


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ('report_to = "http://reports.example/x"\nreport_token = "t"', "https only"),
        ('report_to = "https://me:pw@reports.example/x"', "written to logs"),
        ('report_to = "ftp://reports.example/x"', "http"),
        ('groups = "canary"', "want a list"),
        ("state = 5", "state: want a path, got 5"),
    ],
)
def test_settings_that_would_leak_or_mislead_are_refused(bed: Bed, settings: str, why: str) -> None:
    path = bed.folder / "bed" / "device.toml"
    gone = (settings.split(" ", maxsplit=1)[0], "report_to")
    kept = [line for line in path.read_text().splitlines() if not line.startswith(gone)]
    path.write_text("\n".join([*kept, settings]))
    with pytest.raises(SettingsError, match=why):
        read_config(path)


def test_a_roll_out_document_of_endless_brackets_is_a_format_error() -> None:
    with pytest.raises(FormatError):
        decode(b"[" * 4_096)
