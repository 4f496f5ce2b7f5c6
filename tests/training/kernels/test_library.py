"""The compiled library: missing, damaged, or of other sources."""

import ctypes
import sysconfig
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from training.kernels import library
from training.kernels.attention import target_attention


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """Lets the library be looked for at a path where a test may put something."""
    monkeypatch.setattr(library, "__file__", str(tmp_path / "library.py"))
    monkeypatch.setattr(sysconfig, "get_config_var", lambda _: ".so")
    library.library.cache_clear()
    yield tmp_path / "_kernels.so"
    library.library.cache_clear()


def test_without_kernels_torch_runs_and_says_so_once(elsewhere: Path) -> None:
    assert not elsewhere.exists()
    x = torch.tensor([[[1.0], [2.0]]])
    given = (x, torch.zeros(1, 1), torch.ones(1), x, torch.ones(1, 2, dtype=torch.bool))
    picks = torch.tensor([[0]])
    with pytest.warns(RuntimeWarning, match=r"not built.*install a C\+\+ compiler and then"):
        out = target_attention(*given, picks)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert torch.equal(target_attention(*given, picks), out)
    # softmax(1, 2) over values 1, 2
    torch.testing.assert_close(out.item(), 1 + 1 / (1 + torch.tensor(-1.0).exp().item()))


def test_a_damaged_library_is_not_used(elsewhere: Path) -> None:
    elsewhere.write_text("not a library")
    with pytest.warns(RuntimeWarning, match=r"cannot be used \(.*_kernels.so"):
        assert not library.takes(torch.zeros(1))


def test_a_library_of_other_sources_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    class Older:
        @staticmethod
        def cascade_training_version() -> int:
            return 0

    monkeypatch.setattr(ctypes, "CDLL", lambda _: Older)
    with pytest.raises(OSError, match=r"_kernels.so has version 0 and must have \d"):
        library.load(Path("_kernels.so"))
