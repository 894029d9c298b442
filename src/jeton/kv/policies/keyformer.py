"""Keyformer: accumulated attention under Gumbel noise and a rising temperature.

Source: Adnan et al. 2024, https://arxiv.org/abs/2403.09054, section 3.3, equations 8 and 9
Differs from the source: the noise of a token and head is drawn once, so that neither the order nor
the grouping of forwards changes it; the temperature rises by a fixed step per token; evicts every
`stride` tokens; keys keep their rotary positions.
Cost: as H2O, and one number per head and token for the noise.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from jeton.errors import ConfigError
from jeton.kv.observed import MassPolicy

_BLOCK = 1024  # positions whose noise is drawn together


@dataclass(frozen=True, slots=True)
class Keyformer(MassPolicy):
    """Accumulated attention, regularised.

    Attributes:
        recent: 0 takes 30% of the budget, as the paper does.
        tau_step: What each decoded token adds to the temperature, which starts at 1.
        tau_end: The highest temperature.
        seed: Of the noise.
    """

    recent: int = 0
    tau_step: float = 0.01
    tau_end: float = 2.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.recent == 0:
            object.__setattr__(self, "recent", max(3 * self.budget // 10, 1))
        MassPolicy.__post_init__(self)
        if self.tau_step < 0 or self.tau_end < 1:
            raise ConfigError(
                f"Keyformer needs tau_step >= 0 and tau_end >= 1, got {self.tau_step} and "
                f"{self.tau_end}"
            )

    def temperature(self, step: int) -> float:
        """Return the temperature, `step` tokens after the prompt."""
        return min(1.0 + self.tau_step * step, self.tau_end)

    def noise(self, layer_index: int, num_heads: int, num_positions: int) -> Tensor:
        """Return standard Gumbel noise that depends on seed, layer, head and position alone.

        Args:
            layer_index: Which layer.
            num_heads: Query heads.
            num_positions: Positions from the start of the text.
        Returns:
            Shape (heads, at least num_positions).
        """
        blocks = []
        for block in range(-(-num_positions // _BLOCK)):
            key = (self.seed * 1_000_003 + layer_index) * 1_000_003 + block
            generator = torch.Generator().manual_seed(key % (1 << 63))
            uniform = torch.rand(num_heads, _BLOCK, generator=generator)
            blocks.append(-torch.log(-torch.log(uniform.clamp(1e-20, 1 - 1e-7))))
        return torch.cat(blocks, dim=1)
