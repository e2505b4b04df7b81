"""Runs as repositories on the Hugging Face hub: a PEFT checkpoint with its model card, and the files for a device."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from device_runtime.files import about, read_bounded
from device_runtime.forecast.bundle import read_manifest
from device_runtime.forecast.forecaster import Forecaster
from device_runtime.format.learning import LEARNING_FILE, Learning
from device_runtime.format.manifest import MANIFEST_FILE, MAX_MANIFEST_SIZE
from device_runtime.format.static import STATIC_FILE, Static
from device_runtime.nearest import did_you_mean_path
from edge_tsfm.errors import ConfigError, HubError
from edge_tsfm.models.base import HUB_ID
from edge_tsfm.runs.card import hub_id, peft_card
from edge_tsfm.runs.logged import shared, without_path
from edge_tsfm.runs.record import RUN_FILE
from edge_tsfm.runs.run import PEFT_FOLDER, Run

if TYPE_CHECKING:
    from huggingface_hub import HfApi

BUNDLE_FOLDER = "bundle"
BLOB_FILE = "adapter.etsa"
CARD_FILE = "README.md"
CONFIG_FILE = "adapter_config.json"
BESIDE: Mapping[str, Callable[[bytes], Iterable[str]]] = {  # a bundle's further manifests → the files that they pin
    LEARNING_FILE: lambda data: Learning.parse(data).files,
    STATIC_FILE: lambda data: Static.parse(data).files,
}
LOGIN = "hf auth login, or the variable HF_TOKEN; HF_ENDPOINT names another hub"


def push(
    run: Run, repo: str, *, bundle: Path | None = None, adapter: Path | None = None, public: bool = False
) -> list[str]:
    """Upload a run to the hub's repository ``repo`` (``owner/name``), created if missing; return the uploaded files.

    The PEFT checkpoint is in the top folder, so that PEFT opens it by the repository's name. With a ``bundle`` and its
    blob ``adapter``, these are added for `edge_tsfm.forecast`; those of an earlier push are removed. A new repository
    is private unless ``public``, which is also needed for one that is public already. The upload contains no data and
    no paths of this machine.

    Raises `ConfigError` for an invalid repository name, what opening bundle and blob raises, and `HubError` if the hub
    refuses the upload, cannot be reached, or would show it to everybody without ``public``.
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
            _require_private(api, repo, public=public)
            api.upload_folder(
                repo_id=repo,
                folder_path=folder,
                commit_message=f"{run.target}: {run.method} on {run.base['name']}",
                delete_patterns=[f"{BUNDLE_FOLDER}/*", BLOB_FILE],  # else `pull` returns another run's than the card's
            )
        return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def _require_private(api: HfApi, repo: str, *, public: bool) -> None:
    """Raise `HubError` if everybody can see the repository, unless it may be ``public``."""
    if not public and not api.repo_info(repo).private:
        raise HubError(
            f"{repo} is public: everybody could see this run; nothing was uploaded",
            hint="--public uploads it all the same; or make the repository private on the hub, or give another --repo",
        )


def compose(run: Run, folder: Path, repo: str, *, bundle: Path | None = None, adapter: Path | None = None) -> None:
    """Write the files that `push` uploads into ``folder``.

    Raises `ConfigError` for a run without a PEFT checkpoint, and for a bundle without a blob or vice versa.
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
        Forecaster.open(bundle, adapter)  # fits the bundle, and passes its known-answer test
        run.open_bundle(bundle)
        _copy_pinned(bundle, folder / BUNDLE_FOLDER)
        shutil.copyfile(adapter, folder / BLOB_FILE)
    files = () if bundle is None else (BUNDLE_FOLDER, BLOB_FILE)
    (folder / CARD_FILE).write_text(peft_card(run.record, place=repo, files=files))


def _copy_pinned(bundle: Path, folder: Path) -> None:
    """Copy a bundle's manifests and the files that they pin.

    Other files in its folder are not uploaded, nor is what was proven of its providers: that is of one monitor's.
    """
    names = [MANIFEST_FILE, *read_manifest(bundle).files]
    for beside, pinned in BESIDE.items():
        if (bundle / beside).exists():
            with about(bundle):
                names += [beside, *pinned(read_bounded(bundle / beside, MAX_MANIFEST_SIZE))]
    folder.mkdir()
    for name in names:
        shutil.copyfile(bundle / name, folder / name)


def pull(repo: str) -> tuple[Path, Path]:
    """Return the bundle's folder and the blob of a repository that `push` wrote, as the hub has it now.

    Unchanged files are read from the cache. Raises `HubError` if it cannot be downloaded, or does not contain these
    files.
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


def open_place(bundle: Path | str, adapter: bytes | Path | None) -> tuple[Path | str, bytes | Path | None]:
    """Return ``bundle`` and ``adapter`` as they are, or those of the repository that ``bundle`` names.

    An ``adapter`` that is given takes the place of the repository's. Raises like `pull`.
    """
    if not is_repository(bundle):
        return bundle, adapter
    folder, blob = pull(str(bundle))
    return folder, blob if adapter is None else adapter


def is_repository(place: str | Path) -> bool:
    """Return whether ``place`` is a repository on the hub: it has the form ``owner/name``, and no local path has it."""
    return isinstance(place, str) and not Path(place).exists() and HUB_ID.fullmatch(place) is not None


def _without_path(run: Run, data: bytes) -> dict[str, object]:
    """Return PEFT's configuration with the base's public name instead of a local path."""
    config: dict[str, object] = json.loads(data)
    return {**config, "base_model_name_or_path": hub_id(run.record) or without_path(run.base["source"])}


@contextmanager
def _of_hub(repo: str) -> Iterator[None]:
    """Convert errors of the hub's client to `HubError`."""
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, LocalTokenNotFoundError
    from requests import ConnectionError as NoConnectionError
    from requests import RequestException, Timeout

    try:
        yield
    except LocalTokenNotFoundError as error:
        raise HubError(f"{repo}: not logged in to the hub", hint=LOGIN) from error
    except (NoConnectionError, Timeout, LocalEntryNotFoundError) as error:
        raise _unreachable(repo, error) from error
    except (HfHubHTTPError, RequestException) as error:
        reason = next(line for line in [*str(error).splitlines(), type(error).__name__] if line.strip())
        raise HubError(f"{repo}: {reason}", hint=f"{_local(repo)}{LOGIN}") from error


def _unreachable(repo: str, error: Exception) -> HubError:
    """Say in plain words which host did not answer and why; the client's own words are for those who wrote it."""
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return HubError(
            f"{repo}: HF_HUB_OFFLINE is set, and the hub's cache here does not hold it",
            hint=f"{_local(repo)}fetch it once without HF_HUB_OFFLINE",
        )
    host, why = urlsplit(constants.ENDPOINT).netloc, _cause(error)
    return HubError(
        f"{repo}: the hub at {host} cannot be reached{f': {why}' if why else ''}",
        hint=f"{_local(repo)}check the network and, if there is a proxy, HTTPS_PROXY; HF_ENDPOINT names another hub",
    )


def _cause(error: BaseException | None) -> str:
    """Return the operating system's reason below an error of the network; "" if it gave none."""
    while error is not None:
        if isinstance(error, OSError) and error.strerror:
            return error.strerror
        error = error.__cause__ or error.__context__
    return ""


def _local(repo: str) -> str:
    """Return the beginning of a hint for a name that may have been meant as a path."""
    near = did_you_mean_path(repo)
    return f"{near} " if near else ""
