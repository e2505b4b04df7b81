"""A full disk, a base that came over in part: named errors, nothing half-written that counts as whole."""

import resource
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from device_runtime.errors import StorageError
from edge_tsfm.errors import ModelError, TrainError
from edge_tsfm.models import load_base
from edge_tsfm.runs.run import load_run
from edge_tsfm.runs.train import train
from edge_tsfm.training.config import TrainConfig
from export import export_base
from export.errors import ExportError

DUMMY = Path(__file__).resolve().parents[1] / "dummy_bases" / "chronos-bolt"


@contextmanager
def files_up_to(size: int) -> Iterator[None]:
    """Let no file grow beyond ``size`` bytes: writes fail as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)


@pytest.fixture(scope="module")
def config(make_ward: Callable[[int], Path]) -> TrainConfig:
    return TrainConfig(
        data=str(make_ward(200)), target="HR", interval="1h", base=str(DUMMY), method="bitfit", context_length=24,
        prediction_length=4, steps=4, batch_size=8, evaluate_every=2,
    )  # fmt: skip


@pytest.mark.parametrize("size", [500, 2_500, 30_000])  # nothing fits; the numbers, not what PEFT writes; no picture
def test_a_full_disk_in_training_is_named_and_no_run_is_left(config: TrainConfig, tmp_path: Path, size: int) -> None:
    out = tmp_path / "run"
    with files_up_to(size), pytest.raises((StorageError, TrainError), match=f"cannot write {out}"):
        train(config, out)
    with pytest.raises(TrainError):
        load_run(out)
    assert not [one for one in out.rglob("*") if one.name.endswith((".tmp", ".lock"))]
    train(config, out, resume=True)
    load_run(out).tuned_model()


@pytest.mark.parametrize("size", [100, 20_000, 40_000])
def test_a_full_disk_in_export_is_named_and_leaves_nothing(tmp_path: Path, size: int) -> None:
    base = load_base(str(DUMMY))
    provenance = {"source": "test", "weights": base.digest, "licence": "Apache-2.0"}
    with files_up_to(size), pytest.raises((ExportError, StorageError), match=str(tmp_path)):
        export_base(base.model, family=base.family, name="dummy", out=tmp_path / "bundle", provenance=provenance)
    assert list(tmp_path.iterdir()) == []


POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12345\n"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("model.safetensors", POINTER.encode(), "is a Git LFS pointer"),
        ("config.json", POINTER.encode(), "is a Git LFS pointer"),
        ("model.safetensors", None, "cannot load base"),  # half of it
        ("model.safetensors", b"", "cannot load base"),
        ("model.safetensors", b"\xff" * 4096, "cannot load base"),
        ("config.json", b"{", "cannot load base"),
        ("config.json", b"[]", "cannot load base"),
        ("config.json", b"{}", "cannot load base"),
        ("config.json", b'{"architectures": ["ChronosBoltModelForForecasting"]}', "cannot load base"),
        ("config.json", b"\xff\xfe", "cannot load base"),
    ],
)
def test_a_base_that_came_over_in_part_is_an_error_that_names_it(
    tmp_path: Path, name: str, content: bytes | None, message: str
) -> None:
    folder = tmp_path / "base"
    shutil.copytree(DUMMY, folder)
    whole = (folder / name).read_bytes()
    (folder / name).write_bytes(whole[: len(whole) // 2] if content is None else content)
    with pytest.raises(ModelError, match=message) as caught:
        load_base(str(folder))
    assert str(folder) in str(caught.value)
