import pytest

from serving.bundles.agreement import agreement


@pytest.mark.parametrize(
    ("served", "candidate", "expected"),
    [
        ("abc", "abc", (1.0, 1.0, 1.0)),
        ("abc", "cba", (1.0, 0.0, -1.0)),
        ("abcd", "abxy", (2 / 4, 1.0, 1.0)),
        # Ranks of b, c, d are 0, 1, 2 and 1, 0, 2: 1 - 6 * (1 + 1 + 0) / (3 * 8).
        ("abcd", "cbd", (3 / 4, 0.0, 1 - 6 * 2 / 24)),
        ("ab", "cd", (0.0, 0.0, None)),
        ("ab", "bc", (1 / 2, 0.0, None)),
        ("", "", (1.0, 1.0, None)),
        ("", "a", (0.0, 0.0, None)),
    ],
)
def test_agreement_by_hand(
    served: str, candidate: str, expected: tuple[float, float, float | None]
) -> None:
    assert agreement(list(served), list(candidate)) == expected
