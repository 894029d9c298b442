"""The acceptance head of SpecDec++: from a draft model's hidden state to a probability."""

import torch
from torch import Tensor, nn
from torch.nn import functional


class AcceptanceHead(nn.Module):
    """Residual blocks with SiLU and one output; its sigmoid is the chance to be accepted."""

    def __init__(self, hidden_size: int, num_blocks: int) -> None:
        super().__init__()
        self.hidden_size = hidden_size
        self.blocks = nn.ModuleList(nn.Linear(hidden_size, hidden_size) for _ in range(num_blocks))
        self.output = nn.Linear(hidden_size, 1)

    def forward(self, hidden: Tensor) -> Tensor:
        """Return log odds, shape (...), of hidden states, shape (..., hidden)."""
        state = functional.rms_norm(hidden, (self.hidden_size,))
        for block in self.blocks:
            state = state + functional.silu(block(state))
        odds: Tensor = self.output(state)[..., 0]
        return odds


def rejection_exceeds(acceptances: list[float], threshold: float) -> bool:
    """Return whether the chance that one of the drafted tokens is rejected exceeds a threshold.

    Example:
        >>> rejection_exceeds([0.9, 0.9], 0.2), rejection_exceeds([0.9, 0.8], 0.2)
        (False, True)
    """
    all_accepted = torch.tensor(acceptances, dtype=torch.float64).prod()
    return bool(1.0 - all_accepted > threshold)  # section 3.2: stop when P(a rejection) > h
