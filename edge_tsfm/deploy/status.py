"""What a repository offers, as values and as lines."""

from __future__ import annotations

from typing import Any

from edge_tsfm.deploy.ledger import read_channel, read_rollout
from edge_tsfm.deploy.repository import Repository

WARN_DAYS = 30


def status_of(repository: Repository) -> dict[str, Any]:
    """Return channels, approvals and expiry dates."""
    channels = {}
    for path in sorted((repository.folder / "channels").glob("*.json")):
        channel = read_channel(repository, path.stem)
        state = read_rollout(repository, path.stem)
        channels[path.stem] = {
            "approved": [
                {"file": file, "sequence": sequence, "version": channel.versions[file]}
                for file, sequence in sorted(channel.sequences.items(), key=lambda pair: pair[1])
            ],
            "revoked": list(channel.revoked),
            "security_minimum": channel.security_minimum,
            "rollout": state,
        }
    roles = ["root", *repository.roles(), "snapshot", "timestamp"]
    expires = {role: repository.load(role).signed.expires for role in roles}
    return {
        "gate": repository.config["gate"],
        "channels": channels,
        "expires": {role: when.isoformat() for role, when in expires.items()},
        "days_left": {role: (when - repository.now).days for role, when in expires.items()},
        "bins": len(repository.approved_roles()) > 1,
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
    for name, channel in value["channels"].items():
        state = channel["rollout"]
        out.append(f"channel {name}")
        for item in channel["approved"]:
            below = item["sequence"] < channel["security_minimum"]
            mark = " revoked" if item["file"] in channel["revoked"] or below else ""
            out.append(f"  approved {item['file'][:16]}, version {item['version']}, sequence {item['sequence']}{mark}")
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
                f"  offered  {state['file'][:16]}, sequence {state['sequence']}, {stage['permille']} of 1000, {how}"
            )
            if back := state.get("went_back"):
                out.append(
                    f"  went back: {', '.join(back[:20])}{f' and {len(back) - 20} more' if len(back) > 20 else ''}"
                )
    soonest = min(value["days_left"], key=lambda role: value["days_left"][role])
    out.append(f"soonest to expire: {soonest}, in {value['days_left'][soonest]} days")
    return out
