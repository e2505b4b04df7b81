"""The promotion test in C asks for what the Python learner's judge asks for, after every stay."""

from __future__ import annotations

import struct
import subprocess
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from device_runtime.adapt.bets import Bets, Losses, Proposal
from device_runtime.adapt.rules import AdaptRules

from .conftest import SOURCE, need, run
from .test_processors import PROCESSORS

WISHES = {Proposal.NONE: 0.0, Proposal.PROMOTE: 1.0, Proposal.DEMOTE: 2.0}
STAYS = 1_200
# What the candidate loses and, once it was promoted, what runs: times what frozen does.
CASES = {
    "better": (0.985, 0.985),
    "never better": (1.0, 1.0),
    "turns bad": (0.985, 1.02),
    "worse": (1.01, 1.01),
    "better but for rare gross losses": (0.985, 0.985),
}


def stays(case: str) -> NDArray[np.float64]:
    """Losses of the frozen, the promoted and the candidate model: ``[STAYS, 3]``."""
    rng = np.random.default_rng(sorted(CASES).index(case))
    candidate, promoted = CASES[case]
    frozen = rng.lognormal(3, 0.8, STAYS)
    out = np.stack([frozen, frozen * rng.normal(promoted, 0.03, STAYS), frozen * rng.normal(candidate, 0.03, STAYS)], 1)
    if case.endswith("gross losses"):
        out[::25, 2] = 2 * out[::25, 0]  # far beyond any bound: bets see little of it, the sum all
    out[::101], out[7] = 0.0, (1.0, 0.0, 5.0)  # a stay that nobody lost on, and one of gross differences
    return out


def judged(losses: NDArray[np.float64], rules: AdaptRules) -> NDArray[np.float64]:
    """What the Python runtime's judge says, in the program's order; what it asks for is done at once."""
    bets, promoted, out = Bets(rules), False, []
    for frozen, own, candidate in losses.tolist():
        running = own if promoted else frozen
        proposal = bets.add(Losses(frozen=frozen, running=running, candidate=candidate), promoted=promoted)
        row = [WISHES[proposal], bets.better.log, bets.worse.log]
        if proposal is not Proposal.NONE:
            bets.begin()
            bets.demotions += proposal is Proposal.DEMOTE
            promoted = proposal is Proposal.PROMOTE
        out.append([*row, bets.wanted])
    return np.array(out)


def build(folder: Path, compiler: str, *flags: str) -> Path:
    need(compiler)
    quality, binary = SOURCE / "quality", folder / "promotion"
    strict = ["-std=c99", "-Wall", "-Wextra", "-Wconversion", "-Wshadow", "-Wstrict-prototypes", "-pedantic", "-Werror"]
    sources = [
        Path(__file__).with_name("promotion_program.c"),
        quality / "etsa_promotion.c",
        quality / "etsa_evidence.c",
    ]
    done = run(compiler, *strict, *flags, "-I", quality, *sources, "-o", binary, "-lm")
    assert done.returncode == 0, done.stderr
    return binary


def said(
    binary: Path, losses: NDArray[np.float64], rules: AdaptRules, emulator: str | None = None
) -> NDArray[np.float64]:
    sent = struct.pack("<3d", rules.promote_evidence, rules.promote_stays, rules.demote_evidence) + losses.tobytes()
    command = [*([emulator] if emulator else []), str(binary)]
    done = subprocess.run(command, input=sent, capture_output=True, check=True, timeout=120)
    return np.frombuffer(done.stdout).reshape(len(losses), 4)


RULES = AdaptRules(promote_stays=100)


def test_the_wishes_are_the_judges(tmp_path: Path) -> None:
    binary = build(tmp_path, "cc", "-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
    asked = {}
    for case in CASES:
        wanted = judged(stays(case), RULES)
        np.testing.assert_allclose(said(binary, stays(case), RULES), wanted, rtol=1e-12, atol=1e-12)
        asked[case] = {wish: int((wanted[:, 0] == wish).sum()) for wish in (1.0, 2.0)}
    assert asked["better"][1.0] >= 1
    assert asked["better"][2.0] == 0
    assert asked["turns bad"][2.0] >= 1
    assert not any(asked[case][1.0] for case in ("never better", "worse", "better but for rare gross losses"))


@pytest.mark.slow
@pytest.mark.parametrize("processor", PROCESSORS)
def test_the_wishes_are_the_same_on_every_processor(processor: str, tmp_path: Path) -> None:
    compiler, emulator = PROCESSORS[processor]
    need(compiler, *([emulator] if emulator else []))
    binary = build(tmp_path, compiler, "-O2", "-static")
    for case in CASES:
        got = said(binary, stays(case), RULES, emulator)
        np.testing.assert_allclose(got, judged(stays(case), RULES), rtol=1e-12, atol=1e-12)


def test_a_loss_that_is_not_finite_is_no_evidence(tmp_path: Path) -> None:
    losses = np.array([[np.nan, 1, 1], [2, 2, np.inf], [np.inf, 2, np.nan], [2, 2, 1.5]])
    got = said(build(tmp_path, "cc", "-O2"), losses, RULES)
    assert got[:, 0].tolist() == [0, 2, 0, 0]  # a stay that says nothing; taken back; nothing; a stay
    assert (got[:3, 1] == 0).all()
    assert got[3, 1] > 0


@pytest.mark.parametrize("evidence", [(9.0, 20.0), (20.0, 1.0), (float("nan"), 20.0), (2e9, 20.0)])
def test_rules_out_of_range_are_refused(tmp_path: Path, evidence: tuple[float, float]) -> None:
    binary = build(tmp_path, "cc", "-O2")
    sent = struct.pack("<3d", evidence[0], 100, evidence[1])
    assert subprocess.run([binary], input=sent, capture_output=True, check=False, timeout=60).returncode == 1
