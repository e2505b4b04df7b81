"""Runs as repositories of the Hugging Face hub: a PEFT checkpoint with its card, and a device's files beside it."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from device_runtime.files import about, read_bounded
from device_runtime.forecast.bundle import read_manifest
from device_runtime.forecast.forecaster import Forecaster
from device_runtime.format.learning import LEARNING_FILE, Learning
from device_runtime.format.manifest import MANIFEST_FILE, MAX_MANIFEST_SIZE
from edge_tsfm.errors import ConfigError, HubError
from edge_tsfm.models.base import HUB_ID
from edge_tsfm.runs.card import hub_id, peft_card
from edge_tsfm.runs.logged import shared, without_path
from edge_tsfm.runs.record import RUN_FILE
from edge_tsfm.runs.run import PEFT_FOLDER, Run

BUNDLE_FOLDER = "bundle"
BLOB_FILE = "adapter.etsa"
CARD_FILE = "README.md"
CONFIG_FILE = "adapter_config.json"
LOGIN = "hf auth login, or the variable HF_TOKEN; HF_ENDPOINT names another hub"


def push(
    run: Run, repo: str, *, bundle: Path | None = None, adapter: Path | None = None, public: bool = False
) -> list[str]:
    """Write a run to the repository ``repo`` (``owner/name``) of the hub, made where it is not there; return its files.

    The PEFT checkpoint lies at the top, so that PEFT opens it by the repository's name; with a ``bundle`` and its blob
    ``adapter``, these lie beside it for `edge_tsfm.forecast`. Those of an earlier run do not stay there. A new
    repository is private unless ``public``. Neither data nor a path of this machine is in it.

    Raises `ConfigError` for what cannot be a repository, what opening bundle and blob raises, and `HubError` for what
    the hub refuses.
    """
    from huggingface_hub import HfApi

    if not HUB_ID.fullmatch(repo):
        raise ConfigError(f"--repo {repo}: want OWNER/NAME", hint="such as my-hospital/map-icu")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "repository"
        compose(run, folder, repo, bundle=bundle, adapter=adapter)
        api = HfApi()
        with _of_hub(repo):
            api.create_repo(repo, private=not public, exist_ok=True)
            api.upload_folder(
                repo_id=repo,
                folder_path=folder,
                commit_message=f"{run.target}: {run.method} on {run.base['name']}",
                delete_patterns=[f"{BUNDLE_FOLDER}/*", BLOB_FILE],  # else `pull` returns another run's than the card's
            )
        return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def compose(run: Run, folder: Path, repo: str, *, bundle: Path | None = None, adapter: Path | None = None) -> None:
    """Lay out in ``folder`` what `push` writes.

    Raises `ConfigError` for a run without a PEFT checkpoint, and for a bundle without a blob or the other way round.
    """
    if (bundle is None) != (adapter is None):
        raise ConfigError("a bundle and a blob go together", hint="give both, --bundle and --adapter, or neither")
    source = run.path / PEFT_FOLDER
    if not source.is_dir():
        raise ConfigError(f"{run.path}: method {run.method} has no PEFT checkpoint to share")
    shutil.copytree(source, folder)
    config = json.dumps(_without_path(run, (folder / CONFIG_FILE).read_bytes()), indent=2, sort_keys=True)
    (folder / CONFIG_FILE).write_text(config + "\n")
    (folder / RUN_FILE).write_text(json.dumps(shared(run.record), indent=2) + "\n")
    if bundle is not None and adapter is not None:
        Forecaster.open(bundle, adapter)  # is good for it, and passes its known-answer test
        run.open_bundle(bundle)
        _copy_pinned(bundle, folder / BUNDLE_FOLDER)
        shutil.copyfile(adapter, folder / BLOB_FILE)
    files = () if bundle is None else (BUNDLE_FOLDER, BLOB_FILE)
    (folder / CARD_FILE).write_text(peft_card(run.record, place=repo, files=files))


def _copy_pinned(bundle: Path, folder: Path) -> None:
    """Copy a bundle's manifests and the files that they pin: what else somebody left in its folder is not shared."""
    names = [MANIFEST_FILE, *read_manifest(bundle).files]
    if (bundle / LEARNING_FILE).exists():
        with about(bundle):
            learning = Learning.parse(read_bounded(bundle / LEARNING_FILE, MAX_MANIFEST_SIZE))
        names += [LEARNING_FILE, *learning.files]
    folder.mkdir()
    for name in names:
        shutil.copyfile(bundle / name, folder / name)


def pull(repo: str) -> tuple[Path, Path]:
    """Return the bundle's folder and the blob of a repository that `push` wrote, as the hub has it now.

    What has not changed is read from the cache. Raises `HubError` where it cannot be had, or holds no such files.
    """
    from huggingface_hub import snapshot_download

    with _of_hub(repo):
        folder = Path(snapshot_download(repo, allow_patterns=[f"{BUNDLE_FOLDER}/*", BLOB_FILE]))
    bundle, blob = folder / BUNDLE_FOLDER, folder / BLOB_FILE
    if not (bundle / MANIFEST_FILE).exists() or not blob.exists():
        raise HubError(
            f"{repo} holds no {BUNDLE_FOLDER}/{MANIFEST_FILE} and {BLOB_FILE}",
            hint="edge-tsfm push RUN --repo OWNER/NAME --bundle BUNDLE --adapter BLOB writes such a repository",
        )
    return bundle, blob


def is_repository(place: str | Path) -> bool:
    """Say whether a place is a repository of the hub: nothing here has this name, and it reads ``owner/name``."""
    return isinstance(place, str) and not Path(place).exists() and HUB_ID.fullmatch(place) is not None


def _without_path(run: Run, data: bytes) -> dict[str, object]:
    """Return PEFT's configuration with the base named as others know it."""
    config: dict[str, object] = json.loads(data)
    return {**config, "base_model_name_or_path": hub_id(run.record) or without_path(run.base["source"])}


@contextmanager
def _of_hub(repo: str) -> Iterator[None]:
    """Raise what the hub's client raises as an error of ours."""
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, LocalTokenNotFoundError
    from requests import RequestException

    try:
        yield
    except LocalTokenNotFoundError as error:
        raise HubError(f"{repo}: the hub wants to know who you are", hint=LOGIN) from error
    except (HfHubHTTPError, LocalEntryNotFoundError, RequestException) as error:
        reason = next(line for line in [*str(error).splitlines(), type(error).__name__] if line.strip())
        raise HubError(f"{repo}: {reason}", hint=LOGIN) from error
