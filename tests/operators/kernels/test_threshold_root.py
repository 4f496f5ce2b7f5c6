"""The search for the threshold: every kind of row, every temperature, every path in the code."""

from collections.abc import Callable, Iterator

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from operators.kernels import cpu
from operators.kernels import threshold as search
from operators.kernels.family import FAMILIES
from operators.kernels.threshold import threshold

INF, NAN = float("inf"), float("nan")
TAUS = [1e6, 30.0, 1.0, 0.1, 0.01, 1e-3, 1e-6]


@pytest.fixture(params=["compiled", "torch"], autouse=True, scope="module")
def solver(request: pytest.FixtureRequest) -> Iterator[str]:
    """Both searches, the compiled one where it is built."""
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "torch":
            patch.setattr(cpu, "takes", lambda _: False)
        yield request.param


every_family = pytest.mark.parametrize("family", FAMILIES)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


ROWS: dict[str, Callable[[int], Tensor]] = {
    "normal": lambda n: normal(6, n),
    "heavy-tailed": lambda n: normal(6, n) / normal(6, n, seed=1),
    "far from 0": lambda n: normal(6, n) + 1e4,
    "two clusters": lambda n: 0.1 * normal(6, n) + 1e3 * (normal(6, n, seed=1) > 0.6),
    "tied": lambda n: (2 * normal(6, n)).round() / 2,
    "constant": lambda n: torch.full((6, n), 3.3),
    "one outlier": lambda n: torch.cat([normal(6, n - 1), torch.full((6, 1), 1e8)], -1),
    "sorted": lambda n: normal(6, n).sort(-1).values,
    "periodic": lambda n: (torch.arange(n) % 16).float().expand(6, n) + 0.01 * normal(6, n),
    "negative": lambda n: -normal(6, n).exp() * 1e5,
}


def membership(family: str, distance: Tensor) -> Tensor:
    """F in float64, one tail at a time."""
    if family == "box":
        return distance.clamp(0, 1)
    if family == "logistic":
        return distance.sigmoid()
    return torch.where(distance < 0, 0.5 * distance.exp(), 1 - 0.5 * (-distance).exp())


def excess(distance: Tensor, k: Tensor, tau: float, family: str) -> Tensor:
    """Sum of memberships less k in float64; those above 1/2 count 1, less what they lack."""
    z = distance / tau
    above = membership(family, z) > 0.5
    mirrored = 1 - z if family == "box" else -z
    tails = torch.where(above, -membership(family, mirrored), membership(family, z))
    return above.sum(-1, keepdim=True) - k + tails.sum(-1, keepdim=True)


def bisection(x: Tensor, k: Tensor, tau: float, family: str) -> Tensor:
    """Theta, to the last bit of float64."""
    low, high = x.amin(-1, keepdim=True) - 60 * tau, x.amax(-1, keepdim=True) + 60 * tau
    for _ in range(130):
        middle = low / 2 + high / 2
        up = excess(x - middle, k, tau, family) > 0
        before = low, high
        low, high = torch.where(up, middle, low), torch.where(up, high, middle)
        if torch.equal(low, before[0]) and torch.equal(high, before[1]):
            break
    return low


def assert_is_root(x: Tensor, k: Tensor, tau: float, family: str) -> None:
    """Memberships sum to k, as far as the type tells."""
    theta, rest = threshold(x, k, tau, family)
    distance = (x.double() - theta.double()) - rest.double()
    surplus = excess(distance, k, tau, family)
    eps = torch.finfo(x.dtype).eps
    assert (surplus.abs() <= 16 * eps * k).all()


@every_family
@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize("n", [2, 40, 1000])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_memberships_sum_to_k(family: str, rows: str, n: int, dtype: torch.dtype) -> None:
    x = ROWS[rows](n).to(dtype)
    k = torch.tensor([1, n // 2, n - 1, max(n // 10, 1), n // 3 + 1, max(n - 20, 1)])
    k = k.clamp(1, n - 1).unsqueeze(-1)
    for tau in TAUS:
        assert_is_root(x, k, tau, family)


@pytest.mark.parametrize("family", ["laplace", "logistic"])
@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize("n", [40, 1000])
def test_theta_equals_bisection(family: str, rows: str, n: int) -> None:
    x, k = ROWS[rows](n), torch.tensor([[1], [n // 2], [n - 1]] * 2)
    for tau in TAUS:
        theta, rest = threshold(x, k, tau, family)
        exact = bisection(x.double(), k, tau, family)
        error = (theta.double() + rest.double() - exact).abs() / (tau + exact.abs())
        falling = x.double().sort(-1, descending=True).values
        gap = falling.gather(-1, k - 1) - falling.gather(-1, k)
        open_ = gap < 70 * tau  # in wider gaps the tails are beyond the precision of the judge
        assert (error[open_] < 1e-6).all()


@pytest.mark.parametrize("family", ["laplace", "logistic"])
def test_in_a_deep_gap_theta_balances_the_tails(family: str) -> None:
    x = torch.tensor([[10.0, 9.0, 8.0, -1.0, -2.0, -2.0]], dtype=torch.float64)
    theta, rest = threshold(x, torch.tensor([3]), 0.01, family)
    assert (theta + rest).item() == pytest.approx(3.5, abs=1e-12)
    theta, _ = threshold(x, torch.tensor([4]), 0.005, family)  # two below, one above: log(2) / 2
    assert theta.item() == pytest.approx(-1.5 + 0.005 * torch.log(torch.tensor(2.0)).item() / 2)


@every_family
@pytest.mark.parametrize("rows", ROWS)
def test_the_way_for_hard_rows_gives_the_same(family: str, rows: str) -> None:
    x, k = ROWS[rows](700).double(), torch.tensor([[1], [350], [699]] * 2)
    for tau in TAUS:
        found = search._enclosed(x, k.double(), tau, FAMILIES[family])
        assert found.done.all()
        surplus = excess((x - found.theta) - found.rest, k, tau, family)
        assert (surplus.abs() < 1e-9).all()


@every_family
def test_infinite_scores_take_or_leave_their_places(family: str) -> None:
    finite = normal(5, 600)
    x = torch.cat([torch.tensor([INF, -INF, INF]).expand(5, 3), finite, finite - INF], -1)
    k = torch.tensor([[3], [100], [300], [601], [500]])
    for tau in (1e4, 1.0, 1e-4):
        theta, rest = threshold(x, k, tau, family)
        alone, alone_rest = threshold(finite, k - 2, tau, family)
        got = membership(family, (finite.double() - theta - rest) / tau)
        expected = membership(family, (finite.double() - alone - alone_rest) / tau)
        torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-6)


@every_family
def test_rows_without_a_contest_have_a_threshold_beyond_all_scores(family: str) -> None:
    x = torch.tensor([[INF, INF, 1e30, 0], [1e30, -1e30, -INF, -INF], [INF, -INF, INF, INF]])
    theta, _ = threshold(x, torch.tensor([[2], [2], [1]]), 1.0, family)
    assert theta[0] > 1e37
    assert theta[1] < -1e37
    assert theta[2].isfinite().all()
    theta, _ = threshold(x[:2, 2:], torch.tensor([[0], [9]]), 1.0, family)
    assert theta[0] > 1e37
    assert theta[1] < -1e37


@every_family
def test_nan_stays_in_its_row(family: str) -> None:
    x = normal(3, 50)
    expected, rest = threshold(x, torch.tensor(9), 0.1, family)
    x[1, 7] = NAN
    theta, others = threshold(x, torch.tensor(9), 0.1, family)
    assert theta.isnan().flatten().tolist() == [False, True, False]
    assert torch.equal(theta[::2] + others[::2], expected[::2] + rest[::2])


@every_family
def test_blocks_of_rows_do_not_matter(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    x, k = normal(7, 600), torch.tensor([[1], [2], [30], [300], [450], [598], [599]])
    whole = threshold(x, k, 0.2, family)
    monkeypatch.setattr(search, "BLOCK", 2000)
    for one, other in zip(whole, threshold(x, k, 0.2, family), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-7)


@settings(max_examples=300)
@given(
    st.lists(st.floats(-1e4, 1e4, width=32), min_size=2, max_size=9),
    st.integers(1, 8),
    st.floats(-6, 6).map(lambda e: 10**e),
    st.sampled_from(list(FAMILIES)),
)
def test_any_row_has_its_root(row: list[float], k: int, tau: float, family: str) -> None:
    places = torch.tensor([[min(k, len(row) - 1)]])
    assert_is_root(torch.tensor([row]), places, tau, family)
    assert_is_root(torch.tensor([row], dtype=torch.float64), places, tau, family)


@pytest.mark.slow
@every_family
@pytest.mark.parametrize("rows", ["normal", "heavy-tailed", "far from 0", "tied"])
def test_long_rows(family: str, rows: str) -> None:
    x = ROWS[rows](500_000)[:2]
    for tau in (1.0, 1e-4, 1e-7):
        assert_is_root(x, torch.tensor([[100], [200_000]]), tau, family)


@every_family
def test_is_a_proper_custom_operator(family: str) -> None:
    k = torch.tensor([[1], [2], [3]])
    torch.library.opcheck(threshold, (normal(3, 5), k, 0.5, family))
    torch.library.opcheck(
        threshold, (normal(2, 3, 5).double().transpose(0, 1), k[:, None], 0.5, family)
    )


@every_family
def test_vmap_over_scores_and_k(family: str) -> None:
    x, k = normal(4, 3, 5), torch.tensor([[1], [2], [3], [4]])
    rows = [
        torch.stack([threshold(x[i, j], k[i], 0.5, family)[0] for j in range(3)]) for i in range(4)
    ]
    both = torch.func.vmap(lambda s, p: threshold(s, p, 0.5, family)[0])(x, k)
    torch.testing.assert_close(both, torch.stack(rows))
    only_k = torch.func.vmap(lambda p: threshold(x[0], p, 0.5, family)[0])(k)
    torch.testing.assert_close(only_k[0], rows[0])
    across = torch.func.vmap(lambda s: threshold(s, k[0], 0.5, family)[0], in_dims=1)(x)
    torch.testing.assert_close(across[:, 0], rows[0])


def test_an_unknown_family_is_named() -> None:
    with pytest.raises(
        ValueError, match=r"family == 'cauchy' must be one of: laplace, logistic, b"
    ):
        threshold(torch.ones(2), torch.tensor(1), 1.0, "cauchy")
