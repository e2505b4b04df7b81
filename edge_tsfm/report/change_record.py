"""A change record as one self-contained HTML file: to read, to print, to sign."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any

from edge_tsfm.evaluation.metrics import METRICS
from edge_tsfm.report.html import head, verdict_box
from edge_tsfm.report.verdict import RunVerdict, Seen

JUDGED = {  # the evaluation's name of a forecaster -> in words
    "adapter": "what torch forecasts with the run's parameters, in float32",
    "calibrated": "what torch forecasts with the run's parameters, in float32 and calibrated",
    "device": "what the device forecasts with this adapter and base",
}

# Beyond the common style: text rather than figures in tables, and a page to print and sign.
STYLE = (
    "body{max-width:66rem}h1 b{padding:.1rem .6rem;border-radius:.3rem;color:#fff;font-weight:600}"
    "h1 b{background:#444}.approved,.finish{background:#1a6b3c}.refused,.revoke,.stop,.halt{background:#a3261d}"
    "td,th{padding:.22rem .8rem .22rem 0;text-align:left;vertical-align:top}small{display:inline}"
    "td.n,th.n{text-align:right}td{min-width:3.2rem}td.h{font:12px ui-monospace,monospace;overflow-wrap:anywhere}"
    "td.failed{color:#a3261d;font-weight:600}@media print{body{margin:0}h2{break-after:avoid}}"
)
# What a decision rests on comes first.
ORDER = ("wql", "mase", "mae", "mse", "mape", "dtw", "coverage", "width")


def _purpose(binding: Mapping[str, Any] | None) -> str:
    """Return which signal and clock an adapter is for."""
    if binding is None:
        return "no stated signal"
    known = ", ".join(part for part in (binding["code_system"], binding["code"], binding["unit"]) if part)
    return f"{binding['signal']}{f' ({known})' if known else ''} every {binding['interval'] or 'step'}"


def page(value: Mapping[str, Any]) -> str:
    """Lay out a record."""
    return "\n".join(_parts(value, value["predicate"])) + "\n"


def _parts(value: Mapping[str, Any], predicate: Mapping[str, Any]) -> Iterator[str]:
    """Give the page section by section."""
    decision = escape(predicate["decision"])
    name = escape(value["subject"][0]["name"])
    yield head(f"{value['subject'][0]['name']}: {predicate['decision']}", STYLE)
    yield f'<h1>{name} for {escape(predicate["channel"])}: <b class="{decision}">{decision}</b></h1>'
    checks = predicate["gate"]["checks"]
    failed = [check for check in checks if not check["passed"]]
    reasons = [check["outcome"] for check in failed]
    reasons += ["it says that it was accepted by hand"] if predicate["adapter"]["forced"] else []
    yield f"<p>{len(checks)} checks, {len(failed)} failed{': ' if reasons else ''}{escape('; '.join(reasons))}.</p>"
    adapter, field = predicate["adapter"], predicate["in_the_field"]
    against = (
        f"the frozen base and adapter {field['adapter'][:16]}…, sequence {field['sequence']}"
        if field
        else "the frozen base"
    )
    yield _facts(
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
    yield "<h2>The run</h2>"
    yield from _run(predicate["evaluation"], decision)
    yield "<h2>Gate</h2>"
    yield f"<p>Judged: {JUDGED[predicate['gate']['judged']]}.</p>"
    yield _table(
        ("Check", "Got", "At most", "Outcome", ""),
        [(c["what"], c["got"], c["bound"], _outcome(c), c["note"]) for c in checks],
    )
    yield "<h2>Figures</h2>"
    in_field = (field or {}).get("models", {})
    judged = predicate["gate"]["judged"]
    yield from _figures(predicate["evaluation"], judged, in_field.get(judged) or in_field.get("adapter"))
    yield "<h2>What changes</h2>"
    yield _table(
        ("Tensor", "Shape", "Parameters", "Weights changed", "Largest change", "Relative change"),
        [
            (t["tensor"], " × ".join(map(str, t["shape"])), t["parameters"], t["weights_changed"], t["max_abs_change"],
             t["relative_change"])
            for t in predicate["tensors"]
        ],
    )  # fmt: skip
    frozen = predicate["frozen"]
    yield "<h2>What does not</h2>"
    yield (
        f"<p>{frozen['tensors_touched']} of {frozen['tensors_in_table']} tunable tensors change. "
        f"{escape(frozen['argument'])}</p>"
    )
    yield _table(("File of the base", "SHA-256"), list(frozen["base_files"].items()))
    yield "<h2>Hashes</h2>"
    yield _facts(
        *((item["name"], item["digest"]["sha256"]) for item in value["subject"]),
        (f"Base {frozen['base']}", frozen["base_digest"]),
        ("Gate", predicate["gate"]["sha256"]),
        ("Evaluation", predicate["evaluation"]["sha256"]),
        ("Evaluation data", (predicate["evaluation"].get("data") or {}).get("fingerprint")),
        ("Training data", predicate["training_data"]["sha256"]),
        *(
            (
                ("Adapter in the field", field["adapter"]),
                ("Its signed file", field["signed_file"]),
                ("Its evaluation", field.get("sha256")),
            )
            if field
            else ()
        ),
        kind="h",
    )
    yield "<h2>Signed by</h2>"
    rows = [(role, keyid) for role, ids in predicate["approvals"].items() for keyid in ids]
    yield _table(("Role", "Key"), rows) if rows else "<p>None: a refusal is recorded and not signed.</p>"
    yield "<h2>Made with</h2>"
    yield _facts(*predicate["tools"].items())


def _run(evaluation: Mapping[str, Any], decision: str) -> Iterator[str]:
    """Format the verdict on the run that the blob was exported from, and that this record's gate decides approval."""
    run = evaluation.get("run")
    gate = run.get("gate") if isinstance(run, Mapping) else None
    judged = isinstance(gate, Mapping) and {"accepted", "reason"} <= gate.keys()
    yield verdict_box(RunVerdict(gate=gate if judged else None, seen=Seen.from_dict(evaluation)))
    yield (
        f"<p>That is the verdict on the run when it was trained. Whether monitors may have the adapter is decided by "
        f"the gate below, written down before there was anything to judge: <strong>{decision}</strong>.</p>"
    )


def act_page(value: Mapping[str, Any]) -> str:
    """Lay out the record of an act."""
    return "\n".join(_act_parts(value, value["predicate"])) + "\n"


def _act_parts(value: Mapping[str, Any], predicate: Mapping[str, Any]) -> Iterator[str]:
    """Give the page of an act section by section."""
    act, ring = escape(predicate["decision"]), escape(predicate["channel"])
    yield head(f"{predicate['channel']}: {predicate['decision']}", STYLE)
    yield f'<h1>{ring}: <b class="{act}">{act}</b></h1>'
    yield _facts(
        ("By", predicate["who"]),
        ("Why", predicate["why"]),
        ("At", predicate["at"]),
        ("What it means", predicate["means"]),
    )
    yield "<h2>Adapters</h2>"
    yield _table(
        ("Adapter", "Version", "Sequence", "Revoked"),
        [(_called(one), one["version"], one["sequence"], "yes" if one["revoked"] else "no")
         for one in predicate["adapters"]],
    )  # fmt: skip
    offered = predicate["offered"]
    if offered:
        yield "<h2>Offered now</h2>"
        how = [name for name in ("halt", "paused", "finished") if offered[name]]
        yield _facts(
            ("Adapter", _called(offered)),
            ("Sequence", offered["sequence"]),
            ("To", f"{offered['permille']} of 1000 {' '.join(offered['groups'])}"),
            ("State", ", ".join(how) or "under way"),
            ("Went back", ", ".join(offered["went_back"]) or "nobody"),
        )
    yield "<h2>Taken back on this ring</h2>"
    rows = [(_called(one),) for one in predicate["revoked"]]
    yield f"<p>Everything below sequence {predicate['security_minimum']}, and:</p>"
    yield _table(("Adapter",), rows) if rows else "<p>nothing</p>"
    yield "<h2>Hashes</h2>"
    yield _facts(*((item["name"], item["digest"]["sha256"]) for item in value["subject"]), kind="h")
    yield "<h2>Signed by</h2>"
    yield _table(("Role", "Key"), [(role, keyid) for role, ids in predicate["approvals"].items() for keyid in ids])
    yield "<h2>Made with</h2>"
    yield _facts(*predicate["tools"].items())


def _called(one: Mapping[str, Any]) -> str:
    """Name an adapter as monitors do; one that was not approved here by its signed file."""
    return f"{one['adapter'][:16]}…" if one["adapter"] else f"signed file {one['signed_file'][:16]}…"


def _figures(evaluation: Mapping[str, Any], judged: str, field: Mapping[str, Any] | None) -> Iterator[str]:
    """Show every forecaster's figures, the ``field``'s adapter too, then ``judged`` and base in each subgroup."""
    models = {**evaluation["models"], **({"adapter in the field": field} if field else {})}
    known = [key for key in ORDER if any(key in figures for figures in models.values())]
    data = evaluation.get("data") or {}
    of_what = f"; {data['channel']}, {data['split']} patients of {data['source']}" if data else ""
    yield (
        f"<p>{evaluation.get('windows', 0):,} windows of {evaluation.get('patients', 0):,} patients, "
        f"{evaluation.get('scored', 0):,} values scored{escape(of_what)}.</p>"
    )
    yield _table(
        ("", *(METRICS[key].label for key in known)),
        [(name, *(_value(figures, key) for key in known)) for name, figures in models.items()],
    )
    for column, groups in (evaluation.get("subgroups") or {}).items():
        yield f"<h3>By {escape(column)}</h3>"
        yield _table(
            ("", "Patients", "Windows", f"WQL {judged}", "WQL base"),
            [
                (label, one.get("patients"), one.get("windows"),
                 *(_value(one["models"].get(name, {}), "wql") for name in (judged, "base")))
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


def _facts(*rows: tuple[str, Any], kind: str = "") -> str:
    """Lay out names and values; ``kind`` is the values' class."""
    cells = "".join(
        f'<tr><th>{escape(name)}</th><td class="{kind}">{escape(_text(value))}</td></tr>' for name, value in rows
    )
    return f"<table>{cells}</table>"


def _table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Lay out rows under a head; numbers to the right, hashes in a fixed width, a failure so that it is seen."""
    numeric = [all(isinstance(row[at], int | float | None) for row in rows) for at in range(len(head))]
    cells = "".join(
        f'<th class="{"n" if right else ""}">{escape(name)}</th>' for name, right in zip(head, numeric, strict=True)
    )
    body = "".join(
        "<tr>" + "".join(f'<td class="{_class(item, right)}">{escape(_text(item))}</td>'
                         for item, right in zip(row, numeric, strict=True)) + "</tr>"
        for row in rows
    )  # fmt: skip
    return f"<table><tr>{cells}</tr>{body}</table>"


def _class(item: Any, right: bool) -> str:
    """Return a cell's class."""
    if item == "failed":
        return "failed"
    long = isinstance(item, str) and len(item) == 64 and " " not in item
    return "n" if right else "h" if long else ""


def _text(value: Any) -> str:
    """Write a cell."""
    if isinstance(value, float):
        return f"{value:.4g}"
    return "–" if value is None else f"{value:,}" if isinstance(value, int) else str(value)
