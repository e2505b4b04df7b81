"""The Python learner and a script of what happened to it, for the C core to follow: `adapt_program.c`."""

from __future__ import annotations

import json
import struct
import subprocess
from collections.abc import Callable
from copy import copy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from device_runtime.adapt.bets import Proposal
from device_runtime.adapt.learner import Learner
from device_runtime.adapt.modes import State
from device_runtime.adapt.rules import AdaptRules
from device_runtime.own import Narrowed
from device_runtime.update.stays import MAX_STEPS, Feeds

from .adapt_block import FloatArray, Weights

STATES = {State.GATHERING: 0, State.SHADOW: 1, State.PROMOTED: 2}
WISHES = {Proposal.NONE: 0, Proposal.PROMOTE: 1, Proposal.DEMOTE: 2}
WHATS = {"scored": 1, "learnt": 2, "refused": 3}


def narrowed(whole: Any, moves: tuple[bool, ...]) -> Any:
    """A `Learnable` of some of another one's tensors."""
    kept = tuple(name for name, one in zip(whole.names, moves, strict=True) if one)
    return whole if all(moves) else Narrowed(whole, kept)


@dataclass
class Step:
    """What one entry says, and the shift after it."""

    what: str
    windows: int = 0
    losses: NDArray[np.float64] = field(default_factory=lambda: np.zeros(3))
    evidence: float = 0.0
    iterate: FloatArray | None = None
    mean: FloatArray | None = None


@dataclass(kw_only=True)
class Limits:
    """How close C is."""

    shift: float = 1e-6
    evidence: float = 1e-9
    loss: float = 1e-9  # relative


class Pair:
    """The Python core, and a script of all that happened to it."""

    def __init__(
        self, learnable: Any, block: Weights, rules: AdaptRules, *, interval_ms: int, context_length: int, steps: int,
        plausible: tuple[float, float] | None = (10, 350), moves: tuple[bool, ...] = (True, True, True),
        gap_steps: int = 0, fails: bool = False, calibrated: bool = False,
    ) -> None:  # fmt: skip
        self.moves, self.block, self.rules, self.interval_ms = moves, block, rules, interval_ms

        def opened() -> Learner:
            return Learner(
                rules, narrowed(learnable, moves), block.levels, interval_ms=interval_ms,
                context_length=context_length, steps=steps, plausible=plausible,
            )  # fmt: skip

        self._open = opened
        self.learner, self.feeds = self._open(), Feeds(gap_steps=gap_steps)
        self.moved = np.repeat(moves, block.sizes)
        low, high = plausible or (-np.inf, np.inf)
        state, hidden = block.weights["hidden_layer.weight"].shape[::-1]
        clean, r = rules.clean, rules
        self.head: dict[str, Any] = {
            "state_size": state, "hidden_size": hidden, "levels": len(block.levels), "horizon": block.horizon,
            "flags": fails + 2 * calibrated, "context_length": context_length, "steps_ahead": steps, "max_stay": 0,
            "queue": 32 * MAX_STEPS, "gap_steps": gap_steps, "interval_ms": interval_ms, "low": low, "high": high,
            "windows": r.windows, "new_windows": r.new_windows, "kept_windows": r.kept_windows,
            "disk": r.keep_windows == "disk", "stride": r.stride, "steps": r.steps, "batch": r.batch,
            "first_windows": r.first_windows, "scored_windows": r.scored_windows, "promote_stays": r.promote_stays,
            "seed": r.seed, "moves": sum(one << k for k, one in enumerate(moves)), "rate": r.rate,
            "average": r.average, "anchor": r.anchor, "clip_norm": r.clip_norm, "cap_tensor": r.cap_tensor,
            "cap_day": r.cap_day, "clip_spreads": r.clip_spreads, "blend": r.blend,
            "promote_evidence": r.promote_evidence, "demote_evidence": r.demote_evidence,
            "jump_spreads": clean.jump_spreads, "jump_share": clean.jump_share,
            "jump_steps": clean.jump_steps, "flat_steps": clean.flat_steps,
        }  # fmt: skip
        self.script = [packed(self.head), block.bytes]
        self.checks: list[Callable[[Any], None]] = []
        self.lost = np.zeros(3)
        self.promotions = self.demotions = 0

    # --- what happens ---

    def sample(self, t_ms: int, value: float) -> None:
        self.feeds.observe(t_ms, value, interval_ms=self.interval_ms, series="")
        self.script.append(struct.pack("<cqd", b"S", t_ms, value))

    def end(self) -> None:
        self.feeds.end_stay(series="")
        self.script.append(b"E")

    def work(self, limits: Limits) -> None:
        """Do what `Adapting` does in idle time."""
        steps: list[Step] = []
        learner, partial = self.learner, Step("scored")
        while learner.proposal is Proposal.NONE:
            if not learner.busy:
                stay = self.feeds.next()
                if stay is None:
                    break
                learner.finish(stay)
                continue
            entry = learner.step()
            assert entry is not None
            partial.windows += entry.windows
            partial.losses[: len(entry.losses)] += entry.losses
            if entry.what == "scored" and entry.evidence is None:
                continue
            if entry.what == "scored" and learner.optimiser.steps and np.isfinite(partial.losses).all():
                self.lost += partial.losses
            partial.what, partial.evidence = entry.what, entry.evidence or 0.0
            partial.iterate, partial.mean = (self._wide(one) for one in (learner.optimiser.iterate, learner.shift))
            steps.append(partial)
            partial = Step("scored")
        self.script.append(b"W")
        self.checks.append(lambda reader: reader.steps(steps, limits, sum(self.block.sizes)))
        self.said(limits)

    def act(self, limits: Limits) -> None:
        """Do what the evidence asks for, with numbers rounded as a blob rounds them."""
        if self.learner.proposal is Proposal.PROMOTE:
            shift = self.learner.shift.astype(np.float16).astype(np.float32)
            self.learner.promote(shift)
            self.promotions += 1
            self._answered(b"P" + self._wide(shift).tobytes(), True)
        elif self.learner.proposal is Proposal.DEMOTE:
            self.learner.demote(by_evidence=True)
            self.demotions += 1
            self._answered(b"D\x01", True)
        else:
            return
        self.lost[:] = 0
        self.said(limits)

    def promote(self, shift: FloatArray, limits: Limits) -> None:
        """Let another shift forecast."""
        self.learner.promote(shift)
        self.promotions += 1
        self.lost[:] = 0
        self._answered(b"P" + self._wide(shift).tobytes(), True)
        self.said(limits)

    def forget(self) -> None:
        self.learner.forget_windows()
        self.script.append(b"F")

    def keep(self) -> None:
        """Ask for the bytes that are kept."""
        self.script.append(b"I")
        self.checks.append(lambda reader: reader.image())

    def restarted(self, image: bytes) -> Pair:
        """Go on in another process with what was kept."""
        other = copy(self)
        other.learner = self._open()
        other.learner.restore(json.loads(json.dumps(self.learner.to_value())))
        other.script, other.checks, other.lost = self.script[:2], [], self.lost.copy()
        other.load(image, True)
        return other

    def load(self, data: bytes, good: bool) -> None:
        self._answered(struct.pack("<cI", b"L", len(data)) + data, good)

    def windows(self) -> None:
        """Compare the reservoir."""
        held = self.learner.reservoir.held
        targets = self.learner.reservoir.targets[:held].copy()
        contexts = self.learner.reservoir.contexts[:held].copy()
        self.script.append(b"V")
        self.checks.append(lambda reader: reader.windows(contexts, targets, self))

    # --- what is compared ---

    def said(self, limits: Limits) -> None:
        """Compare everything that is counted."""
        one, bets, counts = self.learner, self.learner.bets, self.learner.counts
        reason = (
            {"": 0, "it was": 1, "it for": 2, "3 stay": 3}[one.reason[:6]] if one.proposal is Proposal.DEMOTE else 0
        )
        whole = [
            STATES[one.state], WISHES[one.proposal], reason, counts.values, counts.out_of_range, counts.jumps,
            counts.flat, one.generation, one.stays, one.refused, one.spoilt, one.in_a_row, one.draws.drawn,
            one.reservoir.held, one.reservoir.seen, one.optimiser.steps, one.optimiser.capped, bets.better.units,
            bets.demotions, self.feeds.left_out, self.feeds.waiting,
        ]  # fmt: skip
        logs = [bets.better.log, bets.worse.log]
        sums = [bets.bound.clip, bets.gained, bets.wanted, *self.lost]
        self.script.append(b"Q")
        self.checks.append(lambda reader: reader.said(whole, logs, sums, limits))

    def _wide(self, shift: FloatArray) -> FloatArray:
        out = np.zeros(len(self.moved), dtype=np.float32)
        out[self.moved] = shift
        return out

    def _answered(self, script: bytes, answer: bool) -> None:
        self.script.append(script)
        self.checks.append(lambda reader: reader.answer(answer))

    def compare(self, followed: bytes) -> Reader:
        """Hold what C wrote to all that Python said."""
        reader = Reader(followed)
        for check in self.checks:
            check(reader)
        assert reader.at == len(followed)
        return reader


class Reader:
    """What C wrote."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0
        self.images: list[bytes] = []
        self.apart = 0.0  # most that a shift differed

    def take(self, dtype: str, count: int) -> NDArray[Any]:
        out = np.frombuffer(self.data, dtype=dtype, count=count, offset=self.at)
        self.at += out.nbytes
        return out

    def answer(self, wanted: bool) -> None:
        assert bool(self.take("u1", 1)[0]) is wanted

    def image(self) -> None:
        size = int(self.take("<u8", 1)[0])
        assert size > 0
        self.images.append(self.take("u1", size).tobytes())

    def steps(self, wanted: list[Step], limits: Limits, size: int) -> None:
        for place, step in enumerate(wanted):
            what, windows = self.take("<u4", 2)
            losses, evidence = self.take("<f8", 3), float(self.take("<f8", 1)[0])
            assert (int(what), int(windows)) == (WHATS[step.what], step.windows), (place, step)
            np.testing.assert_allclose(losses, step.losses, rtol=limits.loss, atol=1e-12, err_msg=str(place))
            assert abs(evidence - step.evidence) <= limits.evidence, (place, evidence, step.evidence)
            for mine in (step.iterate, step.mean):
                assert mine is not None
                self.apart = max(self.apart, float(np.abs(self.take("<f4", size) - mine).max()))
                assert self.apart <= limits.shift, place
        assert int(self.take("<u4", 1)[0]) == 0

    def said(self, whole: list[int], logs: list[float], sums: list[float], limits: Limits) -> None:
        assert self.take("<u8", len(whole)).tolist() == whole
        np.testing.assert_allclose(self.take("<f8", len(logs)), logs, rtol=0, atol=limits.evidence)
        np.testing.assert_allclose(self.take("<f8", len(sums)), sums, rtol=100 * limits.loss, atol=100 * limits.loss)

    def windows(self, contexts: FloatArray, targets: FloatArray, pair: Pair) -> None:
        (held,) = self.take("<u4", 1)
        assert held == len(contexts)
        states = self.take("<f4", held * 8).reshape(held, 8)
        np.testing.assert_array_equal(states, states_of(contexts))
        got = self.take("<f4", targets.size).reshape(targets.shape)
        clipped = np.float32(2**-23) * np.abs(targets)  # the last place, where a target was clipped
        assert ((got == targets) | (np.isnan(got) & np.isnan(targets)) | (np.abs(got - targets) <= clipped)).all()


def states_of(contexts: FloatArray) -> FloatArray:
    """The program's made-up states, in numpy: float32, as C has them."""
    out = np.zeros((len(contexts), 8), dtype=np.float32)
    for place, context in enumerate(contexts):
        seen = context[~np.isnan(context)].astype(np.float64)
        mean = sequential(seen) / len(seen)
        squares = sequential((seen - mean) ** 2)
        loc = np.float32(mean)
        scale = np.float32(np.sqrt(squares / len(seen))) if squares > 0 else np.float32(1)
        last = context[-8:][::-1]
        scaled = np.where(np.isnan(last), np.float32(0), (last - loc) / scale)
        out[place, : len(last)] = np.where(last == 13, np.float32(np.inf), scaled)
    return out


def sequential(x: NDArray[np.float64]) -> float:
    """A sum in order, as C's loop has it."""
    total = 0.0
    for one in x.tolist():
        total += one
    return total


def packed(head: dict[str, Any]) -> bytes:
    """The head of a script."""
    return struct.pack("<10Iq2f12I12d2I", *({**head, "seed": head["seed"] % 2**32}).values())


def followed(binary: Path, script: list[bytes], *, emulator: str | None = None) -> bytes:
    """Let the program follow a script."""
    command = [*([emulator] if emulator else []), str(binary)]
    done = subprocess.run(command, input=b"".join(script), capture_output=True, check=False, timeout=600)
    assert done.returncode == 0, (done.returncode, done.stderr[-3_000:])
    return done.stdout


def follow_program(binary: Path, pair: Pair, *, emulator: str | None = None) -> bytes:
    """Let the program follow what happened to a learner."""
    return followed(binary, pair.script, emulator=emulator)
