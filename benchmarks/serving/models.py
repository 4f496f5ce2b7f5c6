"""The stages that are served: retrieval, and two rankers, one with attention and one without.

They are the stages of a bundle (`training/bundle.py`), as small as such stages can be: an item is
its vector, a user is the history. Weights are drawn, not trained: what is timed is arithmetic.

What depends on the request only is computed once a request, and DIN's first attention layer, linear
in (q, k, q - k, q * k), is folded into one matrix product a request.

Legend: B requests, N candidates, L history length, R item rows, D width, H hidden units.
"""
# ruff: noqa: ARG002  # a stage takes the whole request, whatever it looks at

import torch
from torch import Tensor, nn

TABLE = "items_RD"
"""The buffer that holds the items' vectors, mapped from a file of its own."""

ATTENTION_UNITS = 64
HIDDEN = (128, 64)


class Items(nn.Module):
    """A table of item vectors, and what the history says by itself."""

    def __init__(self, width: int) -> None:
        """Stand in for a table of `width` columns."""
        super().__init__()
        self.register_buffer(TABLE, torch.empty(0, width))
        self.items_RD: Tensor

    @torch.jit.export
    def put_items(
        self, rows_N: Tensor, fields_NF: Tensor, price_N: Tensor, popularity_N: Tensor
    ) -> None:
        """Items have neither fields nor prices here: what is put is unknown but for its row."""
        self.items_RD[rows_N] = self.items_RD[0].clone()

    def interests(self, history_rows_BL: Tensor, history_len_B: Tensor) -> Tensor:
        """Mean of the history's vectors, float [B, D]."""
        # The row of the padding is all zeros.
        total_BD = self.items_RD[history_rows_BL].sum(1)
        return total_BD / history_len_B.clamp(min=1).unsqueeze(1)


class Retrieval(Items):
    """First stage: the mean of the history, moved a little by a tower."""

    def __init__(self, width: int) -> None:
        """Make a tower over vectors of `width` columns."""
        super().__init__(width)
        units = HIDDEN[1]
        self.tower = nn.Sequential(nn.Linear(width, units), nn.ReLU(), nn.Linear(units, width))

    @torch.jit.export
    def encode_user(
        self,
        user_BU: Tensor,
        context_BC: Tensor,
        history_rows_BL: Tensor,
        history_age_days_BL: Tensor,
        history_len_B: Tensor,
        snapshot_B: Tensor,
    ) -> Tensor:
        """Vectors of requests, float [B, D]."""
        interest_BD = self.interests(history_rows_BL, history_len_B)
        moved_BD: Tensor = interest_BD + 0.1 * self.tower(interest_BD)
        return moved_BD

    @torch.jit.export
    def encode_items(self, rows_N: Tensor) -> Tensor:
        """Vectors of items, float [N, D]."""
        return self.items_RD[rows_N]

    def forward(
        self,
        user_BU: Tensor,
        context_BC: Tensor,
        history_rows_BL: Tensor,
        history_age_days_BL: Tensor,
        history_len_B: Tensor,
        snapshot_B: Tensor,
        rows_BN: Tensor,
    ) -> Tensor:
        """Logits of candidates, float [B, N]."""
        user_BD = self.encode_user(
            user_BU, context_BC, history_rows_BL, history_age_days_BL, history_len_B, snapshot_B
        )
        return (self.items_RD[rows_BN] @ user_BD.unsqueeze(2)).squeeze(2)


class MlpRanker(Items):
    """Layers over the user's interest, the candidate, and their product."""

    def __init__(self, width: int) -> None:
        """Make layers over vectors of `width` columns."""
        super().__init__(width)
        self.of_user = nn.Linear(width, HIDDEN[0])
        self.of_pair = nn.Linear(2 * width, HIDDEN[0], bias=False)
        self.deep = nn.Sequential(
            nn.ReLU(), nn.Linear(HIDDEN[0], HIDDEN[1]), nn.ReLU(), nn.Linear(HIDDEN[1], 1)
        )

    def forward(
        self,
        user_BU: Tensor,
        context_BC: Tensor,
        history_rows_BL: Tensor,
        history_age_days_BL: Tensor,
        history_len_B: Tensor,
        snapshot_B: Tensor,
        rows_BN: Tensor,
    ) -> Tensor:
        """Logits of candidates, float [B, N]."""
        interest_B1D = self.interests(history_rows_BL, history_len_B).unsqueeze(1)
        item_BND = self.items_RD[rows_BN]
        pair_BNX = torch.cat([item_BND, item_BND * interest_B1D], dim=2)
        hidden_BNH = self.of_pair(pair_BNX) + self.of_user(interest_B1D)
        logits_BN1: Tensor = self.deep(hidden_BNH)
        return logits_BN1.squeeze(2)


class DinRanker(Items):
    """The same layers over what each candidate finds in the history (Zhou et al. 2018)."""

    def __init__(self, width: int) -> None:
        """Make attention and layers over vectors of `width` columns."""
        super().__init__(width)
        # One layer over (q, k, q - k, q * k), its four parts gathered by what they multiply.
        first = nn.Linear(4 * width, ATTENTION_UNITS)
        q_HD, k_HD, difference_HD, product_HD = first.weight.detach().split(width, dim=1)
        self.query_HD = nn.Parameter(q_HD + difference_HD)
        self.key_HD = nn.Parameter(k_HD - difference_HD)
        self.product_HD = nn.Parameter(product_HD.clone())
        self.bias_H = nn.Parameter(first.bias.detach().clone())
        self.out = nn.Linear(ATTENTION_UNITS, 1)
        self.of_user = nn.Linear(width, HIDDEN[0])
        self.of_pair = nn.Linear(3 * width, HIDDEN[0], bias=False)
        self.deep = nn.Sequential(
            nn.ReLU(), nn.Linear(HIDDEN[0], HIDDEN[1]), nn.ReLU(), nn.Linear(HIDDEN[1], 1)
        )

    def forward(
        self,
        user_BU: Tensor,
        context_BC: Tensor,
        history_rows_BL: Tensor,
        history_age_days_BL: Tensor,
        history_len_B: Tensor,
        snapshot_B: Tensor,
        rows_BN: Tensor,
    ) -> Tensor:
        """Logits of candidates, float [B, N]."""
        interest_BD = self.interests(history_rows_BL, history_len_B)
        # One request after the other: the activations of two would not fit a core's cache.
        logits = [
            self._score(interest_BD[b], history_rows_BL[b], rows_BN[b])
            for b in range(rows_BN.shape[0])
        ]
        return torch.stack(logits)

    def _score(self, interest_D: Tensor, rows_L: Tensor, rows_N: Tensor) -> Tensor:
        key_LD, query_ND = self.items_RD[rows_L], self.items_RD[rows_N]
        L, H = key_LD.shape[0], self.bias_H.shape[0]
        folded_KD = (self.query_HD + self.product_HD * key_LD.unsqueeze(1)).view(L * H, -1)
        offset_K = (key_LD @ self.key_HD.t() + self.bias_H).view(L * H)
        hidden_NK = torch.addmm(offset_K, query_ND, folded_KD.t()).relu_()
        weight_NL = self.out(hidden_NK.view(-1, L, H)).squeeze(2)
        # What pads a history weighs something, but its vector is all zeros.
        attended_ND = weight_NL @ key_LD / L**0.5
        pair_NX = torch.cat([query_ND, attended_ND, query_ND * attended_ND], dim=1)
        hidden_NH = self.of_pair(pair_NX) + self.of_user(interest_D)
        logits_N1: Tensor = self.deep(hidden_NH)
        return logits_N1.squeeze(1)


RANKERS: dict[str, type[MlpRanker] | type[DinRanker]] = {"din": DinRanker, "mlp": MlpRanker}
"""By the name of the bundle."""
