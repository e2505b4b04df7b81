"""Figures from sums whose answer is known by hand."""

from pathlib import Path

import numpy as np
import pytest

from edge_tsfm.errors import DataError
from edge_tsfm.evaluation.metrics import METRICS
from edge_tsfm.research.study.cells import Cell
from edge_tsfm.research.study.pareto import front
from edge_tsfm.research.study.render import markdown, table_csv
from edge_tsfm.research.study.table import tabulate
from edge_tsfm.training.config import TrainConfig

PATIENTS = 40


def cell(label: str, seed: int = 0, kind: str = "adapter") -> Cell:
    config = TrainConfig(data="ward.csv", target="HR", method=label if kind == "adapter" else "bitfit", seed=seed)
    return Cell(kind=kind, folder=f"{label}-{seed}", base="b", label=label, config=config)  # type: ignore[arg-type]


def write(out: Path, one: Cell, mse: float, *, spread: float = 0.0, fingerprint: str = "f") -> Cell:
    """Scores of 40 patients whose squared errors average ``mse``."""
    import io
    import json

    error = mse + spread * np.linspace(-1, 1, PATIENTS)
    sums = np.stack([np.stack([error, np.ones(PATIENTS)], -1)] * len(METRICS), 1)
    record = {"fingerprint": fingerprint, "config": {}, "windows": 80, "values": 400}
    buffer = io.BytesIO()
    names = np.array([f"p{i:02d}" for i in range(PATIENTS)])
    np.savez(buffer, item_id=names, record=np.array(json.dumps(record)), **{f"sums/{one.label}": sums})
    (out / one.folder).mkdir()
    (out / one.folder / "test_scores.npz").write_bytes(buffer.getvalue())
    if one.kind == "adapter":
        training = {"best": 0.1, "seconds": 60.0 + one.config.seed}
        gate = {"accepted": True, "reason": "made by a test"}
        run = {"config": {}, "parameters": 100, "training": training, "gate": gate}
        (out / one.folder / "run.json").write_text(json.dumps(run))
    return one


def test_means_over_seeds_changes_and_shares(tmp_path: Path) -> None:
    cells = [
        write(tmp_path, cell("base", kind="base"), 10.0),
        write(tmp_path, cell("full"), 8.0),
        write(tmp_path, cell("norms", 0), 9.0),
        write(tmp_path, cell("norms", 1), 8.5),
    ]
    (group,) = tabulate(cells, tmp_path, blobs={"norms-0": 512})
    assert [row.label for row in group.rows] == ["base", "full", "norms"]
    norms = group.rows[2]
    assert norms.figures["mse"].value == pytest.approx(8.75)
    assert norms.by_seed["mse"] == (9.0, 8.5)
    assert norms.change["mse"].value == pytest.approx(-0.125)
    assert norms.kept["mse"].value == pytest.approx(1.25 / 2)
    assert (norms.bytes, norms.seconds, norms.seeds, norms.accepted) == (512, 60.5, (0, 1), 2)
    assert group.rows[1].kept["mse"].value == pytest.approx(1)
    text = markdown([group])
    assert "| norms | 100 | 512 | 8.75 (8.75 to 8.75)" in text
    assert "| 2 of 2 | 60 |" in text
    assert group.to_dict()["verdict"] in text
    assert "The gate accepts 2 of 2 methods with every seed" in text
    assert "62 % (62 to 62)" in text
    assert len(table_csv([group]).splitlines()) == 1 + 8 + 2 * (8 + 8 + 2)


def test_a_share_of_a_gain_that_may_be_none_is_not_told(tmp_path: Path) -> None:
    cells = [
        write(tmp_path, cell("base", kind="base"), 10.0),
        write(tmp_path, cell("full"), 9.99, spread=5.0),
        write(tmp_path, cell("norms"), 9.0),
    ]
    (group,) = tabulate(cells, tmp_path, blobs={})
    assert np.isnan(group.rows[2].kept["mse"].value)
    assert group.rows[2].change["mse"].high < 0
    low, high = group.rows[1].change["mse"].low, group.rows[1].change["mse"].high
    assert low < 0 < high


def test_scores_of_other_data_are_not_put_in_one_table(tmp_path: Path) -> None:
    cells = [write(tmp_path, cell("base", kind="base"), 10.0), write(tmp_path, cell("norms"), 9.0, fingerprint="g")]
    with pytest.raises(DataError, match="other data"):
        tabulate(cells, tmp_path, blobs={})


def test_the_front_holds_what_no_smaller_method_beats(tmp_path: Path) -> None:
    scored = (("base", 10.0), ("full", 8.0), ("norms", 9.0), ("vera", 9.5))
    cells = [write(tmp_path, cell(name, kind="base" if name == "base" else "adapter"), mse) for name, mse in scored]
    (group,) = tabulate(cells, tmp_path, blobs={})
    assert [row.label for row in front(group.rows[1:])] == ["full"]  # all of 100 parameters: the best of them


def test_a_method_that_the_gate_refused_is_not_counted_as_a_success_anywhere(tmp_path: Path) -> None:
    """All three beat the base on test patients; the gate accepted none: table, JSON and page say one thing."""
    import json

    from edge_tsfm.research.study.render import page

    cells = [write(tmp_path, cell("base", kind="base"), 10.0), write(tmp_path, cell("nhits", kind="nhits"), 9.5)]
    for name, figure in (("full", 8.0), ("norms", 7.9), ("lora", 8.1)):
        cells.append(write(tmp_path, cell(name), figure))
        record = json.loads((tmp_path / f"{name}-0" / "run.json").read_text())
        record["gate"]["accepted"] = False
        (tmp_path / f"{name}-0" / "run.json").write_text(json.dumps(record))
    (group,) = tabulate(cells, tmp_path, blobs={})
    told = group.to_dict()
    assert [row["accepted"] for row in told["rows"] if row["kind"] == "adapter"] == [0, 0, 0]
    assert [row["passed"] for row in told["rows"]] == [None, None, False, False, False]
    assert "The gate accepts 0 of 3 methods" in told["verdict"]
    assert "of these NOT accepted: full (0 of 1 seeds accepted), norms" in told["verdict"]
    html = page([group], [], title="Study", picture=b"")
    assert "The gate accepts 0 of 3 methods" in html
    assert html.count("REFUSED<small>(0 of 1)") == 3
    assert "Fewest parameters" not in html  # norms keeps all of full's gain, and is not accepted
