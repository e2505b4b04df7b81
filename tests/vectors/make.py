"""Write the vectors: ``python -m tests.vectors.make``. A test compares its output with the files."""

from __future__ import annotations

from pathlib import Path

from tests.vectors.bad_blobs import bad_bindings, bad_extras, bad_groups, bad_headers
from tests.vectors.good_blobs import good_blobs, merges
from tests.vectors.others import generator, manifests, quantised_weights, signed

HERE = Path(__file__).parent


def all_vectors() -> dict[str, bytes]:
    """Name → bytes of every vector."""
    blobs = (good_blobs, bad_headers, bad_groups, bad_extras, bad_bindings, merges)
    makers = (*blobs, manifests, quantised_weights, signed, generator)
    return {name: data for make in makers for name, data in make().items()}


def main() -> None:
    for name, data in all_vectors().items():
        path = HERE / f"{name}.vec"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)


if __name__ == "__main__":
    main()
