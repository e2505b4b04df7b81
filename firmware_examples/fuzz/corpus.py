"""Seed corpus from the vectors: ``python fuzz/corpus.py OUT`` writes OUT/blob/ and OUT/manifest/."""

import sys
from pathlib import Path

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


if __name__ == "__main__":
    main(Path(sys.argv[1]))
