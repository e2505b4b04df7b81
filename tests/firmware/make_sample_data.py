"""Write firmware_examples/sample_data: ``PYTHONPATH=tests python -m firmware.make_sample_data``. Needs onnx."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from device_runtime.format.blob import encode

from .dummy import bind, make_adapter, make_bundle

OUT = Path(__file__).parents[2] / "firmware_examples" / "sample_data"


def main() -> None:
    """Write a bundle, an adapter signed with a key that is no secret, and a series."""
    shutil.rmtree(OUT / "bundle", ignore_errors=True)
    (OUT / "bundle").mkdir(parents=True)
    bundle = make_bundle(OUT / "bundle")
    blob = encode(make_adapter(bundle, binding=bind("MAP")))  # hourly
    private = Ed25519PrivateKey.from_private_bytes(b"edge-tsfm sample key, no secret.")
    key = private.public_key().public_bytes_raw()
    head = b"ETSG\1\0\1\0" + hashlib.sha256(key).digest()[:8]
    (OUT / "ward.etsa").write_bytes(blob + head + private.sign(b"edge-tsfm adapter v1\0" + blob))
    (OUT / "key.hex").write_text(key.hex() + "\n", encoding="ascii")
    values = 75 + 9 * np.cos(np.arange(48) / 4)
    rows = [f"{hour},{'' if hour in {7, 8, 30} else f'{value:.1f}'}" for hour, value in enumerate(values)]
    (OUT / "series.csv").write_text("\n".join(["hour,MAP", *rows]) + "\n", encoding="ascii")


if __name__ == "__main__":
    main()
