"""Names that a spreadsheet would run are told of, and never changed."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from device_runtime.cli.forecast import command
from device_runtime.cli.formulas import warn_of_formulas

BUNDLE = Path(__file__).resolve().parents[2] / "dummy_bases" / "chronos-bolt-bundle"
FORMULA = "=1+cmd|' /C calc'!A0"


@pytest.mark.parametrize("cells", [["bed 7", "a=b", "", "–"], ["-5", "+4.5e3", "-inf"]])
def test_ordinary_names_and_numbers_are_silent(cells: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    warn_of_formulas("edge-tsfm", cells)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("cell", [FORMULA, "@SUM(A1)", "+1-1", "-1+1", "\t=1", "\r=1"])
def test_a_formula_is_named_once(cell: str, capsys: pytest.CaptureFixture[str]) -> None:
    warn_of_formulas("edge-tsfm", [cell, cell, "bed 7"])
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"edge-tsfm: warning: {cell!r}: a spreadsheet would")


def test_the_forecasts_keep_the_name_and_say_so(tmp_path: Path) -> None:
    data = tmp_path / "ward.csv"
    rows = [f"{item},{step},{80 + step % 5}" for item in (FORMULA, "=2") for step in range(20)]
    data.write_text("\n".join(["item_id,timestamp,flow", *rows]) + "\n")
    asked = [str(BUNDLE), "--input", str(data), "--target", "flow", "--prediction-length", "1"]
    result = CliRunner().invoke(command, asked)
    assert result.exit_code == 0, result.output
    assert f"\n{FORMULA},1," in result.stdout
    assert f"{FORMULA!r} and 1 more: a spreadsheet would" in result.stderr
    as_json = CliRunner().invoke(command, [*asked, "--json"])
    assert "spreadsheet" not in as_json.stderr
