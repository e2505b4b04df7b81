"""The envelope of adaptation: what a monitor may learn by itself, how far, and who may let it (FORMAT.md §12).

A file of one line of canonical JSON followed by signatures, which are a blob's with another domain prefix. Pure: bytes
in, values out. A monitor's settings can only be stricter; without an envelope no learnt adapter forecasts.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields, replace
from typing import TypeVar

from device_runtime.adapt.modes import Mode
from device_runtime.adapt.rules import AdaptRules
from device_runtime.binder import bind
from device_runtime.errors import FormatError, SizeError, UnsupportedError
from device_runtime.format import canonical
from device_runtime.format.envelope import MAX_SIGNATURES_SIZE, Signature, Verifier, read_signatures, verify

FORMAT_NAME = "edge-tsfm adaptation envelope"
VERSION = 2  # 1: without `blend`, when a candidate was all that was learnt
PREFIX = b"edge-tsfm envelope v1\0"
MAX_TEXT = 16_384  # bytes of the JSON
MAX_SIZE = MAX_TEXT + 1 + MAX_SIGNATURES_SIZE
MAX_TENSORS = 256
MAX_WORDS = 2_000  # characters of each of the texts for people
# Settings in which a monitor may be stricter than its envelope.
LOWER = ("cap_tensor", "cap_day", "cap_tracking", "demote_evidence")
HIGHER = ("promote_evidence", "promote_stays")
R = TypeVar("R", bound=AdaptRules)
LEAST_EVIDENCE = 20.0  # at 1 / 20 a monitor that gains nothing is promoted once in its life with a probability of 5 %


ORDER = (Mode.OFF, Mode.SHADOW, Mode.BOUNDED, Mode.ACTIVE)  # each goes further than the one before


def further(mode: Mode, than: Mode) -> bool:
    """Whether one mode allows what another does not."""
    return ORDER.index(mode) > ORDER.index(than)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The words of a predetermined change control plan, for people: they decide nothing."""

    changes: str  # what may change, and what never
    verification: str  # how each change is verified before it forecasts
    impact: str  # what it may do to a patient, and why that is acceptable

    def __post_init__(self) -> None:
        """Refuse a plan that says nothing."""
        for name, text in asdict(self).items():
            if not 1 <= len(text.strip()) <= MAX_WORDS:
                raise FormatError(f"{name}: want 1 to {MAX_WORDS} characters, got {len(text)}")


@dataclass(frozen=True, kw_only=True)
class Envelope:
    """One signed permission for the monitors of one ring. Valid once built."""

    ring: str  # of the fleet: the monitors that it is for
    sequence: int  # a monitor takes no lower one, and another one of the same number neither
    signal: str
    unit: str
    interval: str  # "1h"
    base: str  # SHA-256 of bundle.json, hex
    learning: str  # SHA-256 of learning.json, hex
    enabled_by: tuple[str, ...]  # who may let a monitor go further than shadow, as its settings name them
    tensors: tuple[str, ...]  # that may move
    rules: AdaptRules  # the furthest mode, the caps, the least evidence; a monitor learns with exactly the others
    evidence: str  # SHA-256 of what `edge-tsfm adapt-eval --json` wrote, hex
    plan: Plan

    def __post_init__(self) -> None:
        """Check every field."""
        for name in ("base", "learning", "evidence"):
            digest = getattr(self, name)
            if len(digest) != 64 or not set(digest) <= set("0123456789abcdef"):
                raise FormatError(f"{name} {digest[:80]!r}: want a SHA-256 in hexadecimal")
        if not 0 <= self.sequence < 2**53:
            raise FormatError(f"sequence {self.sequence}: want 0 to 2^53")
        if not 1 <= len(self.tensors) <= MAX_TENSORS or len(set(self.tensors)) != len(self.tensors):
            raise FormatError(f"{len(self.tensors)} tensors: want 1 to {MAX_TENSORS} different ones")
        if further(self.most, Mode.SHADOW) and not (self.enabled_by and all(one.strip() for one in self.enabled_by)):
            raise FormatError(f"mode {self.most}: want in enabled_by who may enable it")
        if self.rules.promote_evidence < LEAST_EVIDENCE:
            raise FormatError(f"promote_evidence {self.rules.promote_evidence:g}: want at least {LEAST_EVIDENCE:g}")

    @property
    def most(self) -> Mode:
        """The furthest mode."""
        return self.rules.mode

    def bounded(self, settings: R) -> R:
        """Return a monitor's settings with the envelope's rules, the tighter caps and the higher evidence of both."""
        ours, theirs = self.rules, settings
        numbers = {one.name: getattr(ours, one.name) for one in fields(AdaptRules) if one.name not in ("mode",)}
        return replace(
            settings,
            **{
                **numbers,
                "keep_windows": theirs.keep_windows if ours.keep_windows == "disk" else ours.keep_windows,
                "long_stream": ours.long_stream and theirs.long_stream,
                **{name: min(getattr(ours, name), getattr(theirs, name)) for name in LOWER},
                **{name: max(getattr(ours, name), getattr(theirs, name)) for name in HIGHER},
            },
        )

    def allows(self, mode: Mode, by: str) -> tuple[Mode, str]:
        """Return how far a monitor may go whose settings say ``mode``, enabled ``by`` a person, and why not further."""
        if further(mode, self.most):
            return self.most, f"the envelope allows {self.most} at most"
        if further(mode, Mode.SHADOW) and by not in self.enabled_by:
            who = f"{by!r}" if by else "nobody, since enabled_by is not set,"
            return Mode.SHADOW, f"{who} may not enable {mode}: the envelope names {', '.join(self.enabled_by)}"
        return mode, ""


def encode(envelope: Envelope) -> bytes:
    """Write an envelope's JSON, unsigned. Raises `FormatError` for a text that canonical JSON cannot carry."""
    data = canonical.dumps({"format": FORMAT_NAME, "format_version": VERSION, **asdict(envelope)})
    if len(data) > MAX_TEXT:
        raise SizeError(f"envelope: {len(data)} bytes, want at most {MAX_TEXT}")
    return data


def decode(data: bytes) -> Envelope:
    """Read an envelope's JSON. Raises `FormatError` or `UnsupportedError` for anything `encode` does not write."""
    if len(data) > MAX_TEXT:
        raise SizeError(f"envelope: {len(data)} bytes, want at most {MAX_TEXT}")
    value = canonical.loads(data, "envelope")
    if not isinstance(value, dict) or value.pop("format", None) != FORMAT_NAME:
        raise FormatError(f"not an envelope of adaptation: want format {FORMAT_NAME!r}")
    version = value.pop("format_version", None)
    if type(version) is not int or not 1 <= version <= VERSION:
        raise UnsupportedError(f"envelope: version {version!r}; this runtime reads 1 to {VERSION}")
    if version == 1 and isinstance(value.get("rules"), dict):
        if "blend" in value["rules"]:
            raise FormatError("envelope: version 1 has no rule blend")
        value["rules"]["blend"] = 1.0
    return bind(Envelope, value, "envelope", complete=True)


def join(text: bytes, signatures: bytes) -> bytes:
    """Append signatures to an envelope's JSON: the file that is published."""
    return text + b"\n" + signatures


def split(data: bytes) -> tuple[bytes, tuple[Signature, ...]]:
    """Take a file apart into JSON and signatures. Raises `SizeError`, `FormatError`, `SignatureError`."""
    if len(data) > MAX_SIZE:
        raise SizeError(f"envelope: {len(data)} bytes, want at most {MAX_SIZE}")
    text, end, trailer = data.partition(b"\n")
    if not end:
        raise FormatError("envelope: want a line of JSON and the signatures behind it")
    return text, read_signatures(trailer)


def open_signed(
    data: bytes, trusted_keys: Iterable[bytes], threshold: int, *, verifier: Verifier | None = None
) -> Envelope:
    """Check an envelope's signatures, then read it: nothing is decoded before. Raises what `split` and `decode` do."""
    text, signatures = split(data)
    verify(text, signatures, trusted_keys, threshold, verifier=verifier, prefix=PREFIX)
    return decode(text)
