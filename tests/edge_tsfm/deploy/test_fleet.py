"""A fleet against a real HTTP server: stages, a bad adapter stopped at the first, everything taken back."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.simulators import fleet


@pytest.mark.slow
def test_a_bad_adapter_stops_at_the_first_stage_and_a_revoked_one_leaves_every_monitor(tmp_path: Path) -> None:
    count = 150
    first, everybody, last_word, idle, bad, stopped, revoked = fleet.run(tmp_path, count)
    canaries = first.outcomes["trial"]
    assert 0 < canaries < count // 8
    assert first.decision.startswith("advance")
    assert everybody.runs == {1: count}
    assert (last_word.outcomes, idle.outcomes) == ({"nothing": count}, {"nothing": count})
    assert 0 < bad.outcomes["trial"] < count // 8
    assert bad.decision.startswith("stop")
    assert bad.runs == stopped.runs == {1: count}  # those that tried it rolled back by themselves
    assert revoked.runs == {0: count}
    assert idle.sent + idle.received < 2_000  # bytes on the wire, HTTP headers included
    assert max(phase.sent + phase.received for phase in (first, everybody, bad)) < 10_000
