"""KeyDiff: keep the tokens whose keys are unlike the mean key.

Source: Park et al. 2025, https://arxiv.org/abs/2504.15364, equation 3
Differs from the source: keeps recent tokens too; evicts every `stride` tokens.
Cost: one normalisation and one product per key and eviction.
"""

from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional

from jeton.kv.contract import Rows
from jeton.kv.evict import EvictPolicy


@dataclass(frozen=True, slots=True)
class KeyDiff(EvictPolicy):
    """Minus the cosine between the key and the mean of the normalised keys."""

    sinks: int = 0
    recent: int = 16

    def score(self, rows: Rows) -> Tensor:
        """Return how unlike the mean each key is.

        Args:
            rows: Of any kind.
        """
        keys = functional.normalize(rows.keys.float(), dim=-1)
        exists = (rows.positions >= 0)[..., None]
        anchor = (keys * exists).sum(dim=2, keepdim=True)  # its length cancels in the cosine
        return -functional.cosine_similarity(keys, anchor, dim=-1)
