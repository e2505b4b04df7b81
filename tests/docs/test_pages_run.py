"""Every command and program of README and docs runs as printed, in order, and prints what the page says.

`pages` has the convention. A page runs in an empty folder of its own, or in a copy of what another page has left.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.docs import pages
from tests.docs.compare import DifferentError, Digests, compare

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(
    {
        str(path.relative_to(ROOT))
        for path in (*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("*/*.md"))
        if ".venv" not in path.parts and "build" not in path.parts
    }
)
LIMIT = 600  # seconds of one block
STATE = ".page-environment"


DATA = Path(os.environ.get("EDGE_TSFM_DATA", ROOT.parent / "shared" / "data"))
# Files of others that a page works on: put into its folder where they are here.
NEEDS = {
    "hospital-a": DATA / "physionet2019_hospital_a.parquet",
    "mimic-demo": DATA / "mimic3_demo" / "vitals_long.csv.gz",
}


@pytest.mark.parametrize("name", PAGES)
def test_every_block_is_run_or_says_why_not(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    assert text.count("\n```") % 2 == 0, f"{name}: a block without an end"
    for block in pages.blocks(ROOT / name):
        where = f"{name}:{block.line}"
        assert block.language in (*pages.RUN, *pages.KEPT), f"{where}: say what ```{block.language} is; see pages.py"
        assert set(block.marks) <= set(pages.KEYS), f"{where}: {block.marks}"
        if block.language in pages.RUN:
            assert len(block.marks.get("not run", "a reason")) > 5, f"{where}: why is it not run?"
            assert block.marks.get("needs", "hospital-a") in NEEDS, where
            assert list(block.steps()), where
        elif block.language == "text" and "output" not in block.marks:
            assert not pages.COMMAND.search(block.text), f"{where}: commands belong in ```sh or ```console"


def running(name: str) -> bool:
    return any(block.runs for block in pages.blocks(ROOT / name))


@pytest.fixture(scope="session")
def run_page(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Run a page once in a session, those it follows before; return its folder."""
    done: dict[str, Path | Exception] = {}

    def run(name: str) -> Path:
        if name not in done:
            folder = tmp_path_factory.mktemp(Path(name).stem) / "here"
            try:
                before = pages.after(ROOT / name)
                if before is None:
                    folder.mkdir()
                else:
                    left = run(os.path.normpath(Path(name).parent / before))
                    shutil.copytree(left, folder, symlinks=True)
                    state = folder / STATE  # it goes on in the copy, not where that page ended
                    state.write_text(state.read_text().replace(str(left), str(folder)))
                run_blocks(name, folder)
                done[name] = folder
            except (AssertionError, pytest.skip.Exception) as error:
                done[name] = error
        found = done[name]
        if isinstance(found, Path):
            return found
        raise found

    return run


@pytest.mark.exhaustive
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", [name for name in PAGES if running(name)])
def test_the_page_runs_as_printed(name: str, run_page: Callable[[str], Path]) -> None:
    run_page(name)


def run_blocks(name: str, folder: Path) -> None:
    digests = Digests()
    printed: list[str] = []
    for block in pages.blocks(ROOT / name):
        where = f"{name}:{block.line}"
        if "needs" in block.marks:
            file = NEEDS[block.marks["needs"]]
            if not file.exists():
                continue
            if not (folder / file.name).exists():
                (folder / file.name).symlink_to(file)
        if "file" in block.marks:
            (folder / block.marks["file"]).write_text(block.text)
        elif "output" in block.marks:
            check(where, block.text.split("\n"), printed, digests, block.tolerance)
        elif block.runs:
            steps = list(block.steps())
            for step in steps:
                status = int(block.marks.get("exit", "0")) if step is steps[-1] else 0
                command = digests.put(step.command)
                printed = execute(block.language, command, folder, status, where)
                if step.output is not None:
                    check(f"{where}: {command}", step.output, printed, digests, block.tolerance)


def check(where: str, wanted: object, real: list[str], digests: Digests, tolerance: float) -> None:
    try:
        compare(wanted, real, digests, tolerance=tolerance)  # type: ignore[arg-type]
    except DifferentError as error:
        raise AssertionError(f"{where}\n{error}\nall of it:\n" + "\n".join(real)) from None


def execute(language: str, command: str, folder: Path, status: int, where: str) -> list[str]:
    """Run one command or program in ``folder``, with the variables and folder that the ones before have left."""
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "HF_HUB_OFFLINE": "1",
        "PYTHONWARNINGS": "ignore",
        "COLUMNS": "200",
    }
    if language == "python":
        arguments = [sys.executable, "-c", command]
    else:
        state = folder / STATE
        state.touch()
        script = f'. "{state}"\nset -e\n{command}\nset +e; {{ export -p; echo "cd \'$PWD\'"; }} > "{state}"\n'
        arguments = ["bash", "-c", script]
    try:
        done = subprocess.run(
            arguments, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=LIMIT, input=""
        )
    except subprocess.TimeoutExpired as error:
        raise AssertionError(f"{where}\n{command}\nstill runs after {LIMIT} s") from error
    said = f"{where}\n{command}\nexit {done.returncode}\n{done.stdout[-3000:]}{done.stderr[-3000:]}"
    assert done.returncode == status, said
    return (done.stdout + (done.stderr if status else "")).split("\n")
