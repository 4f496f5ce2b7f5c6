"""The measure of conflict: by hand, on operators whose coupling is known, and the whole command."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from benchmarks import conflict
from operators import MIXED, dftopk
from operators.permutation import softsort_topk


def scores_of(*shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def uncoupled(
    scores: Tensor,
    k: int | Tensor,  # noqa: ARG001
    tau: float = 1.0,
    mask: Tensor | None = None,  # noqa: ARG001
) -> Tensor:
    """No candidate knows of another."""
    return (scores / tau).sigmoid()


def test_shares_by_hand() -> None:
    contributed = torch.tensor(
        [
            [2.0, -1.0, 0.5, 0.005],  # opposes candidate 1 by a quarter, 3 by half a percent
            [0.5, 4.0, -0.3, -1.0],  # nobody: candidate 2 has no own contribution
            [-1e-13, 1.0, 0.0, -0.7],  # candidate 0, but by no more than rounding
            [0.001, -0.001, 5.0, -1.0],  # candidate 1, by a 4000th
        ],
        dtype=torch.float64,
    )
    result = conflict.conflict_of(contributed)
    assert result.any == pytest.approx(3 / 6)  # {0, 1}, {0, 3}, {1, 3}
    assert result.notable == pytest.approx(1 / 6)  # {0, 1}
    kept = (2 + 0.5 + 0.001) + (4 + 1 - 1 - 0.001) + (5 + 0.5 - 0.3) + (1 + 1 + 0.7 - 0.005)
    everything = 2.501 + 6.001 + 5.8 + 2.705
    assert result.lost == pytest.approx(1 - kept / everything)


def test_contributions_are_the_derivatives_of_each_term() -> None:
    row, labels, step = scores_of(6), torch.tensor([1.0, 0, 0, 1, 0, 0]), 1e-6
    contributed = conflict.contributions(softsort_topk, row, labels, 2, 0.7)

    def terms(scores: Tensor) -> Tensor:
        member = MIXED + (1 - 2 * MIXED) * softsort_topk(scores, 2, 0.7)
        return -torch.where(labels > 0, member.log(), (1 - member).log())

    for i, nudge in enumerate(step * torch.eye(6, dtype=torch.float64)):
        slope = (terms(row + nudge) - terms(row - nudge)) / (2 * step)
        torch.testing.assert_close(contributed[:, i], -slope, rtol=1e-5, atol=1e-7)


def test_candidates_that_do_not_know_of_each_other_never_conflict() -> None:
    row, labels = scores_of(9), (torch.arange(9) < 3).double()
    contributed = conflict.contributions(uncoupled, row, labels, 3, 0.5)
    assert conflict.conflict_of(contributed) == pytest.approx((0.0, 0.0, 0.0), abs=1e-12)


def test_dftopk_couples_through_the_two_neighbours_of_its_threshold_only() -> None:
    n, k = 12, 3
    row = scores_of(n)
    contributed = conflict.contributions(dftopk, row, (torch.arange(n) < k).double(), k, 0.5)
    boundary = row.topk(k + 1).indices[-2:]
    foreign = contributed - contributed.diagonal().diag()
    foreign[:, boundary] = 0
    assert foreign.count_nonzero() == 0
    share = conflict.conflict_of(contributed).any
    assert 0 < share <= (2 * n - 3) / (n * (n - 1) / 2)


def test_a_row_without_gradient_has_no_conflict() -> None:
    assert conflict.conflict_of(torch.zeros(4, 4)) == (0.0, 0.0, 0.0)


@pytest.mark.parametrize("softness", [0.02, 0.1])
def test_tau_gives_the_softness_asked_for(softness: float) -> None:
    scores = scores_of(4, 20)
    for operator in (dftopk, softsort_topk):
        tau = conflict.tau_at(operator, scores, 5, softness)
        hard = torch.zeros_like(scores).scatter(-1, scores.topk(5).indices, 1.0)
        assert float((operator(scores, 5, tau) - hard).abs().mean()) == pytest.approx(softness)


def test_the_command_prints_a_table_and_draws(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "docs").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(conflict, "SIZES", (8,))
    monkeypatch.setattr(conflict, "SOFTNESS", (0.05,))
    monkeypatch.setattr(conflict, "ROWS", 2)
    conflict.main()
    printed = capsys.readouterr().out
    assert "python -m benchmarks.conflict: 2 rows, 3 seeds, k = N/4" in printed
    assert "   8  0.05  dftopk " in printed
    assert (tmp_path / "docs" / "conflict.png").read_bytes().startswith(b"\x89PNG")
