"""The rules of adaptation in C through ctypes, from and to the Python runtime's."""

from __future__ import annotations

import ctypes
from dataclasses import fields
from typing import Any

from device_runtime.adapt.modes import May, Mode
from device_runtime.adapt.rules import AdaptRules, CleanRules

LEARNING = ("rate", "average", "anchor", "clip_norm", "cap_tensor", "cap_day")
CLEAN = ("jump_spreads", "jump_share", "jump_steps", "flat_steps")


class CLearning(ctypes.Structure):
    """etl_rules."""

    _fields_ = [(name, ctypes.c_double) for name in LEARNING]


class CClean(ctypes.Structure):
    """eta_clean_rules."""

    _fields_ = [(name, ctypes.c_double if name in CLEAN[:2] else ctypes.c_uint32) for name in CLEAN]


class CAdaptRules(ctypes.Structure):
    """eta_rules."""

    _fields_ = [
        ("mode", ctypes.c_uint),
        *((name, ctypes.c_uint32) for name in ("windows", "new_windows", "kept_windows")),
        ("keep_windows", ctypes.c_bool),
        *((name, ctypes.c_uint32) for name in ("stride", "steps", "batch", "first_windows")),
        ("learning", CLearning),
        ("clip_spreads", ctypes.c_double),
        ("scored_windows", ctypes.c_uint32),
        ("promote_evidence", ctypes.c_double),
        ("promote_stays", ctypes.c_uint32),
        ("demote_evidence", ctypes.c_double),
        ("long_stream", ctypes.c_bool),
        *((name, ctypes.c_double) for name in ("offset_rate", "width_rate", "cap_tracking")),
        ("seed", ctypes.c_uint32),
        ("clean", CClean),
    ]


class CRules:
    """The functions of etsa_adapt_rules.h on Python's rules."""

    def __init__(self, core: ctypes.CDLL) -> None:
        core.rules_size.restype = ctypes.c_size_t
        assert core.rules_size() == ctypes.sizeof(CAdaptRules)
        for name in ("eta_rules_at", "eta_rules_bounded", "eta_rules_default"):
            getattr(core, name).restype = CAdaptRules
        core.eta_rules_check.restype = ctypes.c_char_p
        core.eta_mode_may.restype = CMay
        self.core = core
        assert self.python(core.eta_rules_default()) == AdaptRules()

    def c(self, rules: AdaptRules, **other: Any) -> CAdaptRules:
        """Python's rules in C, some of them others."""
        said = {**vars(rules), **vars(rules.clean), **other}
        out = CAdaptRules(mode=list(Mode).index(rules.mode), keep_windows=rules.keep_windows == "disk")
        for part, names in ((out.learning, LEARNING), (out.clean, CLEAN)):
            for name in names:
                setattr(part, name, said[name])
        for name in (one.name for one in fields(rules) if one.name not in (*LEARNING, "mode", "keep_windows", "clean")):
            setattr(out, name, said[name])
        return out

    def python(self, rules: CAdaptRules) -> AdaptRules:
        """C's rules in Python."""
        said = {name: getattr(rules, name) for name, *_ in CAdaptRules._fields_}
        learning, clean = said.pop("learning"), said.pop("clean")
        said |= {name: getattr(learning, name) for name in LEARNING}
        said |= {"mode": list(Mode)[rules.mode], "keep_windows": "disk" if rules.keep_windows else "memory"}
        return AdaptRules(**said, clean=CleanRules(**{name: getattr(clean, name) for name in CLEAN}))

    def check(self, rules: AdaptRules, **other: Any) -> str | None:
        return self._name(self.c(rules, **other))

    def check_bounded(self, envelope: AdaptRules, settings: AdaptRules) -> str | None:
        ours, theirs = self.c(envelope), self.c(settings)
        return self._name(self.core.eta_rules_bounded(ctypes.byref(ours), ctypes.byref(theirs)))

    def _name(self, rules: CAdaptRules) -> str | None:
        found = self.core.eta_rules_check(ctypes.byref(rules))
        return None if found is None else str(found.decode())

    def at(self, rules: AdaptRules, interval_ms: int, steps: int) -> AdaptRules:
        one = self.c(rules)
        return self.python(self.core.eta_rules_at(ctypes.byref(one), ctypes.c_int64(interval_ms), steps))

    def bounded(self, envelope: AdaptRules, settings: AdaptRules) -> AdaptRules:
        ours, theirs = self.c(envelope), self.c(settings)
        return self.python(self.core.eta_rules_bounded(ctypes.byref(ours), ctypes.byref(theirs)))

    def mode(self, mode: Mode, most: Mode | None, named: bool) -> Mode:
        limit = None if most is None else ctypes.byref(ctypes.c_uint(list(Mode).index(most)))
        place: int = self.core.eta_mode_allowed(list(Mode).index(mode), limit, named)
        return list(Mode)[place]

    def may(self, mode: Mode) -> May:
        found = self.core.eta_mode_may(list(Mode).index(mode))
        return May(learn=found.learn, track=found.track, promote=found.promote)


class CMay(ctypes.Structure):
    """eta_may."""

    _fields_ = [(name, ctypes.c_bool) for name in ("learn", "track", "promote")]
