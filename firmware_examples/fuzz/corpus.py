"""Seed corpus from the vectors and the sample: ``python fuzz/corpus.py OUT`` writes OUT/blob/, manifest/, graph/."""

import sys
from pathlib import Path

SAMPLE = Path(__file__).parents[1] / "sample_data" / "bundle"
VECTORS = Path(__file__).parents[2] / "tests" / "vectors"


def main(out: Path) -> None:
    """Write each vector's payload."""
    for path in VECTORS.rglob("*.vec"):
        head, payload = path.read_bytes().split(b"\n\n", 1)
        what = head.split(b"\n", 1)[0].removeprefix(b"what: ").decode("ascii")
        if what in {"blob", "manifest"}:
            target = out / what / path.stem
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(payload)
    graph = out / "graph" / "sample"
    graph.parent.mkdir(parents=True, exist_ok=True)
    graph.write_bytes((SAMPLE / "forecast.onnx").read_bytes())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
