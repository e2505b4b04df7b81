"""Loading a base: a bundled name, a local folder in the hub's layout, or a hub id."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from device_runtime.binder import bind_value
from device_runtime.documents import read_json
from device_runtime.nearest import did_you_mean
from edge_tsfm.errors import ModelError
from edge_tsfm.models.base_config import CONFIG_FILE, check_config

BUNDLED_FOLDER = Path(__file__).resolve().parent / "bundled"
BUNDLED = (
    tuple(sorted(path.name for path in BUNDLED_FOLDER.iterdir() if path.is_dir())) if BUNDLED_FOLDER.exists() else ()
)
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")  # owner/name
HINT = (
    f"bundled bases, which need no network: {', '.join(BUNDLED) or 'none'}; or give a local folder with config.json "
    "and model.safetensors, or a hub id such as amazon/chronos-bolt-tiny"
)
WEIGHTS_FILE = "model.safetensors"
REASON = 300  # characters of a library's message
POINTER = b"version https://git-lfs.github.com/spec/"
DEFAULT_BASE = "edge-bolt-micro"


@dataclass(frozen=True, kw_only=True)
class Base:
    """A frozen base in torch, float32, in evaluation mode."""

    model: Any
    family: str
    name: str
    source: str  # what `load_base` was given: loads the same base again
    digest: str  # hex, of the weights
    licence: str
    local: bool = False  # from a folder of somebody's, whose name says nothing to others

    @property
    def bundle_name(self) -> str:
        """Name of a bundle of this base: equal weights have one name and so one base digest, wherever they lie."""
        return f"{self.family}-{self.digest[:12]}" if self.local else self.name

    @property
    def provenance(self) -> dict[str, str]:
        """Where the weights come from, as a bundle's manifest states it: no path of this machine."""
        source = "local folder" if self.local else self.source
        return {"source": source, "weights": self.digest, "licence": self.licence}


def load_base(source: str) -> Base:
    """Load a base through chronos-forecasting's own classes.

    ``source`` is a bundled name (its digest is checked), a local folder in the hub's layout, or a hub id such as
    ``amazon/chronos-bolt-tiny``. Raises `ModelError` when it cannot be had, is damaged, or is of another family.
    """
    from edge_tsfm.models.family import family_of

    model = open_pipeline(source).inner_model
    try:
        family = family_of(model)
    except KeyError:
        raise ModelError(f"base {source!r} is a {type(model).__name__}, which is not supported") from None
    model.eval().requires_grad_(False)
    local = source not in BUNDLED and Path(source).exists()
    known = source in BUNDLED or (source.startswith("amazon/") and not local)
    return Base(
        model=model,
        family=family,
        name=Path(source).name,
        source=source,
        digest=weights_digest(model),
        licence="Apache-2.0" if known else "as at its source",
        local=local,
    )


def open_pipeline(source: str) -> Any:
    """Open a base as chronos-forecasting's pipeline, in float32 on the CPU. Raises `ModelError` as `load_base`."""
    import torch
    from chronos import BaseChronosPipeline

    folder = BUNDLED_FOLDER / source
    if source in BUNDLED:
        _check_bundled(source, folder)
        place = str(folder)
    elif not Path(source).exists() and not HUB_ID.fullmatch(source):
        # Asking the hub would only wait for its refusal.
        hint = f"{did_you_mean(source, BUNDLED)}{HINT}"
        raise ModelError(f"cannot load base {source!r}: not bundled, no folder here, and no hub id", hint=hint)
    else:
        place = source
    _refuse_pointers(Path(place))
    check_config(Path(place), source, HINT)
    try:
        pipeline = BaseChronosPipeline.from_pretrained(place, device_map="cpu", torch_dtype=torch.float32)
    except MemoryError:
        raise
    except Exception as error:
        kind = "folder" if Path(place).exists() else "hub id"
        raise ModelError(f"cannot load base {source!r} as a {kind}: {_reason(error)}", hint=HINT) from error
    return pipeline


def _reason(error: Exception) -> str:
    """Return why a base could not be opened: a library's words where they are of files, ours where of objects."""
    first = next(iter(str(error).splitlines()), "")[:REASON]
    if isinstance(error, OSError | ValueError | SafetensorError) and first:
        return first
    return f"{CONFIG_FILE} and {WEIGHTS_FILE} do not make one Chronos model"


def context_of(base: Base) -> int:
    """Return how many steps a base reads at most: of a longer context it takes the last."""
    config = base.model.config.chronos_config
    return int(config["context_length"])


def _refuse_pointers(folder: Path) -> None:
    """Refuse a folder whose files Git LFS has not fetched: they are short texts that name the weights."""
    for name in (CONFIG_FILE, WEIGHTS_FILE):
        path = folder / name
        if path.is_file():
            with path.open("rb") as file:
                if file.read(len(POINTER)) == POINTER:
                    raise ModelError(
                        f"{path} is a Git LFS pointer, not the file itself", hint=f"git lfs pull in {folder}"
                    )


def weights_digest(model: Any) -> str:
    """Return the SHA-256 (hex) of all parameters: name, shape and float32 bytes of each, by name."""
    digest = hashlib.sha256()
    for name, parameter in sorted(model.named_parameters()):
        digest.update(f"{name} {list(parameter.shape)}\n".encode())
        digest.update(parameter.detach().float().contiguous().cpu().numpy().astype("<f4").tobytes())
    return digest.hexdigest()


def _check_bundled(name: str, folder: Path) -> None:
    """Compare a bundled base's weights with the digest pinned beside it."""
    hint = "the installation is damaged: install edge-tsfm again"
    path = BUNDLED_FOLDER / "digests.json"
    digests = bind_value(Mapping[str, str], read_json(path, error=ModelError, hint=hint), str(path), error=ModelError)
    pinned = digests.get(name, "none")
    try:
        actual = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    except OSError as error:
        raise ModelError(f"bundled base {name}: {error}", hint=hint) from error
    if actual != pinned:
        raise ModelError(f"bundled base {name}: weights have SHA-256 {actual[:16]}…, want {pinned[:16]}…", hint=hint)
