"""A change record as one self-contained HTML file: to read, to print, to sign."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from edge_tsfm.evaluation.metrics import METRICS
from edge_tsfm.report.document import Bullets, Page, Part, Section, Table, Text, Verdict, facts, plain_table
from edge_tsfm.report.render import render
from edge_tsfm.report.text import METRIC_ORDER
from edge_tsfm.report.verdict import RunVerdict, Seen

JUDGED = {  # the evaluation's name of a forecaster -> in words
    "adapter": "what torch forecasts with the run's parameters, in float32",
    "calibrated": "what torch forecasts with the run's parameters, in float32 and calibrated",
    "device": "what the device forecasts with this adapter and base",
}


def _purpose(binding: Mapping[str, Any] | None) -> str:
    """Return the signal and interval that an adapter is for."""
    if binding is None:
        return "no stated signal"
    known = ", ".join(part for part in (binding["code_system"], binding["code"], binding["unit"]) if part)
    return f"{binding['signal']}{f' ({known})' if known else ''} every {binding['interval'] or 'step'}"


def page(value: Mapping[str, Any]) -> str:
    """Return a record as a page."""
    predicate = value["predicate"]
    return render(
        Page(
            title=f"{value['subject'][0]['name']} for {predicate['channel']}",
            decision=predicate["decision"],
            lead=tuple(_lead(value, predicate)),
            sections=tuple(_sections(value, predicate)),
        )
    )


def _lead(value: Mapping[str, Any], predicate: Mapping[str, Any]) -> Iterator[Part]:
    """Yield the decision, who made it, and the adapter it is about."""
    checks = predicate["gate"]["checks"]
    failed = [check for check in checks if not check["passed"]]
    reasons = [check["outcome"] for check in failed]
    reasons += ["it says that it was accepted by hand"] if predicate["adapter"]["forced"] else []
    yield Text(text=f"{len(checks)} checks, {len(failed)} failed{': ' if reasons else ''}{'; '.join(reasons)}.")
    adapter, field = predicate["adapter"], predicate["in_the_field"]
    against = (
        f"the frozen base and adapter {field['adapter'][:16]}…, sequence {field['sequence']}"
        if field
        else "the frozen base"
    )
    yield facts(
        "The decision",
        ("By", predicate["who"]),
        ("Why", predicate["why"]),
        ("At", predicate["at"]),
        ("For", _purpose(adapter["for"])),
        (
            "Adapter",
            f"{value['subject'][0]['digest']['sha256'][:16]}…, version {adapter['version']}, "
            f"{adapter['parameters']:,} parameters",
        ),
        ("Compared with", against),
    )


def _sections(value: Mapping[str, Any], predicate: Mapping[str, Any]) -> Iterator[Section]:
    """Give the page section by section."""
    yield Section(title="The run", parts=tuple(_run(predicate["evaluation"], predicate["decision"])))
    judged, field = predicate["gate"]["judged"], predicate["in_the_field"]
    checks = plain_table(
        "The checks of the gate, written down before there was anything to judge",
        ("Check", "Got", "At most", "Outcome", "Note"),
        [(c["what"], c["got"], c["bound"], _outcome(c), c["note"]) for c in predicate["gate"]["checks"]],
    )
    yield Section(title="Gate", parts=(Text(text=f"Judged: {JUDGED[judged]}."), checks))
    in_field = (field or {}).get("models", {})
    shown = _figures(predicate["evaluation"], judged, in_field.get(judged) or in_field.get("adapter"))
    yield Section(title="Figures", parts=tuple(shown))
    yield Section(title="What changes", parts=(_changed(predicate["tensors"]),))
    yield Section(title="What does not", parts=tuple(_unchanged(predicate["frozen"])))
    yield Section(title="Hashes", parts=(facts("SHA-256 of everything named here", *_hashes(value, predicate)),))
    yield _signed(predicate, "None: a refusal is recorded and not signed.")
    yield _made_with(predicate)


def _changed(tensors: Sequence[Mapping[str, Any]]) -> Table:
    return plain_table(
        "Tensors that the adapter adds to",
        ("Tensor", "Shape", "Parameters", "Weights changed", "Largest change", "Relative change"),
        [
            (t["tensor"], " × ".join(map(str, t["shape"])), t["parameters"], t["weights_changed"], t["max_abs_change"],
             t["relative_change"])
            for t in tensors
        ],
    )  # fmt: skip


def _unchanged(frozen: Mapping[str, Any]) -> Iterator[Part]:
    yield Text(
        text=f"{frozen['tensors_touched']} of {frozen['tensors_in_table']} tunable tensors change. {frozen['argument']}"
    )
    yield plain_table("Files of the base", ("File of the base", "SHA-256"), list(frozen["base_files"].items()))


def _hashes(value: Mapping[str, Any], predicate: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    frozen, field = predicate["frozen"], predicate["in_the_field"]
    yield from ((item["name"], item["digest"]["sha256"]) for item in value["subject"])
    yield f"Base {frozen['base']}", frozen["base_digest"]
    yield "Gate", predicate["gate"]["sha256"]
    yield "Evaluation", predicate["evaluation"]["sha256"]
    yield "Evaluation data", (predicate["evaluation"].get("data") or {}).get("fingerprint")
    yield "Training data", predicate["training_data"]["sha256"]
    if field:
        yield "Adapter in the field", field["adapter"]
        yield "Its signed file", field["signed_file"]
        yield "Its evaluation", field.get("sha256")


def _signed(predicate: Mapping[str, Any], nobody: str = "") -> Section:
    rows = [(role, keyid) for role, ids in predicate["approvals"].items() for keyid in ids]
    table = plain_table("Keys that signed", ("Role", "Key"), rows)
    return Section(title="Signed by", parts=(Text(text=nobody) if nobody and not rows else table,))


def _made_with(predicate: Mapping[str, Any]) -> Section:
    return Section(title="Made with", parts=(facts("Versions", *predicate["tools"].items()),))


def _run(evaluation: Mapping[str, Any], decision: str) -> Iterator[Part]:
    """Yield the verdict on the run that the blob was exported from; approval is decided by this record's gate."""
    run = evaluation.get("run")
    gate = run.get("gate") if isinstance(run, Mapping) else None
    judged = isinstance(gate, Mapping) and {"accepted", "reason"} <= gate.keys()
    yield Verdict(of=RunVerdict(gate=gate if judged else None, seen=Seen.from_dict(evaluation)))
    yield Text(
        text="That is the verdict on the run when it was trained. Whether monitors may have the adapter is decided by "
        f"the gate below, written down before there was anything to judge: {decision}.",
        strong=True,
    )


def act_page(value: Mapping[str, Any]) -> str:
    """Return the record of an act as a page."""
    predicate = value["predicate"]
    what = facts(
        "The act",
        ("By", predicate["who"]),
        ("Why", predicate["why"]),
        ("At", predicate["at"]),
        ("What it means", predicate["means"]),
    )
    return render(
        Page(
            title=predicate["channel"],
            decision=predicate["decision"],
            lead=(what,),
            sections=tuple(_act_sections(value, predicate)),
        )
    )


def _act_sections(value: Mapping[str, Any], predicate: Mapping[str, Any]) -> Iterator[Section]:
    """Give the page of an act section by section."""
    adapters = plain_table(
        "Adapters of this ring",
        ("Adapter", "Version", "Sequence", "Revoked"),
        [(_called(one), one["version"], one["sequence"], one["revoked"]) for one in predicate["adapters"]],
    )
    yield Section(title="Adapters", parts=(adapters,))
    offered = predicate["offered"]
    if offered:
        how = [name for name in ("halt", "paused", "finished") if offered[name]]
        state = facts(
            "The roll-out",
            ("Adapter", _called(offered)),
            ("Sequence", offered["sequence"]),
            ("To", f"{offered['permille']} of 1000 {' '.join(offered['groups'])}"),
            ("State", ", ".join(how) or "under way"),
            ("Went back", ", ".join(offered["went_back"]) or "nobody"),
        )
        yield Section(title="Offered now", parts=(state,))
    taken = tuple(_called(one) for one in predicate["revoked"]) or ("nothing",)
    below = Text(text=f"Everything below sequence {predicate['security_minimum']}, and:")
    yield Section(title="Taken back on this ring", parts=(below, Bullets(lines=taken)))
    subjects = ((item["name"], item["digest"]["sha256"]) for item in value["subject"])
    yield Section(title="Hashes", parts=(facts("SHA-256 of everything named here", *subjects),))
    yield _signed(predicate)
    yield _made_with(predicate)


def _called(one: Mapping[str, Any]) -> str:
    """Return an adapter's name as monitors use it; for one that was not approved here, that of its signed file."""
    return f"{one['adapter'][:16]}…" if one["adapter"] else f"signed file {one['signed_file'][:16]}…"


def _figures(evaluation: Mapping[str, Any], judged: str, field: Mapping[str, Any] | None) -> Iterator[Part]:
    """Show every forecaster's figures, the ``field``'s adapter too, then ``judged`` and base in each subgroup."""
    models = {**evaluation["models"], **({"adapter in the field": field} if field else {})}
    known = [key for key in METRIC_ORDER if any(key in figures for figures in models.values())]
    data = evaluation.get("data") or {}
    of_what = f"; {data['channel']}, {data['split']} patients of {data['source']}" if data else ""
    yield Text(
        text=f"{evaluation.get('windows', 0):,} windows of {evaluation.get('patients', 0):,} patients, "
        f"{evaluation.get('scored', 0):,} values scored{of_what}."
    )
    yield plain_table(
        "Every forecaster on the same windows",
        ("", *(METRICS[key].label for key in known)),
        [(name, *(_value(figures, key) for key in known)) for name, figures in models.items()],
    )
    for column, groups in (evaluation.get("subgroups") or {}).items():
        yield plain_table(
            f"By {column}",
            (column, f"WQL {judged}", "WQL base", "Patients", "Windows"),
            [
                (label, *(_value(one["models"].get(name, {}), "wql") for name in (judged, "base")),
                 one.get("patients"), one.get("windows"))
                for label, one in groups.items()
            ],
        )  # fmt: skip


def _outcome(check: Mapping[str, Any]) -> str:
    """Describe how a check ended."""
    if check["passed"] and check["got"] is None and check["bound"] is not None:
        return "not judged"
    return "passed" if check["passed"] else "failed"


def _value(figures: Mapping[str, Any], key: str) -> float | None:
    """Return one figure."""
    return (figures.get(key) or {}).get("value")
