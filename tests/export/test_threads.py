"""A small model runs on one thread; who asks for more, or has a large model, gets it."""

from collections.abc import Iterator

import pytest
import torch
from torch import nn

from export.threads import SMALL, threads_for


@pytest.fixture(autouse=True)
def _three_threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Three, as no rule here would choose."""
    before = torch.get_num_threads()
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


def within(model: nn.Module) -> int:
    with threads_for(model):
        return torch.get_num_threads()


def test_the_size_of_the_model_decides() -> None:
    with torch.device("meta"):
        small, large = nn.Linear(SMALL - 1, 1, bias=False), nn.Linear(SMALL, 1, bias=False)
    assert (within(small), within(large)) == (1, 3)


def test_what_the_environment_says_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert within(nn.Linear(1, 1)) == 3


def test_the_number_is_put_back_after_an_error() -> None:
    with pytest.raises(ValueError, match="bad"), threads_for(nn.Linear(1, 1)):
        raise ValueError("bad")
    assert torch.get_num_threads() == 3
