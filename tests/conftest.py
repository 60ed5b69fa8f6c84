"""Folders that tests write to in place of the checkout; one thread."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Images, features and filters are made once for a module."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LTGATE_DATA_CACHE", str(tmp_path_factory.mktemp("data")))
        yield


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A fresh folder of runs for a test."""
    monkeypatch.setenv("LTGATE_HOME", str(tmp_path))
    return tmp_path


@pytest.fixture(scope="module")
def shared_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """One folder of runs and data for all tests of a module."""
    folder = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LTGATE_HOME", str(folder))
        yield folder


@pytest.fixture
def one_thread() -> Iterator[None]:
    """PyTorch's and the kernels' threads, one for a test."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
