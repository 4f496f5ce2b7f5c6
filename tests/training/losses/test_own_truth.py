"""A truth of each request's own size, against requests whose size is announced."""

import pytest
import torch

from training.losses import Judgments, LossConfig, cascade_loss
from training.losses.config import LossName
from training.losses.threshold import OPERATOR_OF

SIZES = (1, 3, 0, 6)
"""Of six candidates; the last two requests have nothing to tell."""


@pytest.mark.parametrize("sort", ["neuralsort", "softsort", "diffsort"])
@pytest.mark.parametrize("name", ["lcron", *OPERATOR_OF])
def test_each_request_is_cut_at_the_size_of_its_truth(name: LossName, sort: str) -> None:
    config = LossConfig.model_validate({"name": name, "tau": 0.7, "sort": sort})
    draw = torch.Generator().manual_seed(0)
    scores = [torch.randn(4, 6, generator=draw, dtype=torch.float64) for _ in range(2)]
    relevant = torch.arange(6) < torch.tensor(SIZES).unsqueeze(1)
    valid = torch.ones(4, 6, dtype=torch.bool)
    judgments = Judgments(relevant.double(), relevant.long(), relevant, valid, torch.ones(4))
    loss = cascade_loss(config, (5, 3), None, (0, 0)).double()
    found = loss(scores, judgments).parts

    def alone(b: int) -> dict[str, torch.Tensor]:
        request = Judgments(*(x[b : b + 1] for x in judgments if x is not None))
        announced = cascade_loss(config, (5, 3), SIZES[b], (0, 0)).double()
        parts: dict[str, torch.Tensor] = announced([x[b : b + 1] for x in scores], request).parts
        return parts

    first, second = alone(0), alone(1)
    expected = {part: (first[part] + second[part]) / 2 for part in first}
    torch.testing.assert_close(found, expected)
