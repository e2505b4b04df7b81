"""What a repository offers, as values and as lines."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from edge_tsfm.deploy.ledger import Ring, read_ring, read_rollout
from edge_tsfm.deploy.repository import Repository

WARN_DAYS = 30


def status_of(repository: Repository) -> dict[str, Any]:
    """Return rings, approvals and expiry dates."""
    rings = {}
    for path in sorted((repository.folder / "channels").glob("*.json")):
        ring = read_ring(repository, path.stem)
        state = read_rollout(repository, path.stem)
        rings[path.stem] = {
            "approved": [
                {
                    "adapter": ring.adapters[file],
                    "signed_file": file,
                    "sequence": sequence,
                    "version": ring.versions[file],
                    "revoked": not ring.live(file),
                }
                for file, sequence in sorted(ring.sequences.items(), key=lambda pair: pair[1])
            ],
            "revoked": [ring.adapters[file] for file in ring.revoked],
            "security_minimum": ring.security_minimum,
            "rollout": None if state is None else named(ring, state),
        }
    roles = ["root", *repository.roles(), "snapshot", "timestamp"]
    expires = {role: repository.load(role).signed.expires for role in roles}
    return {
        "gate": repository.config["gate"],
        "rings": rings,
        "channels": rings,  # the old name, for this release
        "expires": {role: when.isoformat() for role, when in expires.items()},
        "days_left": {role: round((when - repository.now) / timedelta(days=1)) for role, when in expires.items()},
        "bins": len(repository.approved_roles()) > 1,
    }


def named(ring: Ring, state: dict[str, Any]) -> dict[str, Any]:
    """Return a roll-out as the publisher keeps it, with adapters under the name that monitors report."""
    rest = {key: value for key, value in state.items() if key not in ("file", "before")}
    return {
        **rest,
        "adapter": ring.adapters[state["file"]],
        "signed_file": state["file"],
        "before": ring.adapters.get(state.get("before") or ""),
    }


def ageing(repository: Repository) -> dict[str, int]:
    """Return the roles that people must sign again soon, with offline keys, and the days that are left."""
    left = status_of(repository)["days_left"]
    return {
        role: days
        for role, days in left.items()
        if role not in ("snapshot", "timestamp", "rollout") and days < WARN_DAYS
    }


def lines(value: dict[str, Any]) -> list[str]:
    """Return the same for people."""
    out = []
    for name, ring in value["rings"].items():
        state = ring["rollout"]
        out.append(f"ring {name}")
        for item in ring["approved"]:
            mark = " revoked" if item["revoked"] else ""
            out.append(
                f"  approved adapter {item['adapter'][:16]}, version {item['version']}, "
                f"sequence {item['sequence']}{mark}"
            )
        if state:
            stage = state["stages"][state["stage"]]
            how = (
                "halted"
                if state["halt"]
                else "finished"
                if state["finished"]
                else "paused"
                if state["paused"]
                else "running"
            )
            out.append(
                f"  offered  adapter {state['adapter'][:16]}, sequence {state['sequence']}, "
                f"{stage['permille']} of 1000, {how}"
            )
            if state["halt"] and state.get("because"):
                out.append(f"  because  {state['because']}")
            if back := state.get("went_back"):
                out.append(
                    f"  went back: {', '.join(back[:20])}{f' and {len(back) - 20} more' if len(back) > 20 else ''}"
                )
    soonest = min(value["days_left"], key=lambda role: value["days_left"][role])
    out.append(f"soonest to expire: {soonest}, in {value['days_left'][soonest]} days")
    return out
