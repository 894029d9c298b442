"""SnapKV: keep the clusters of tokens that the last queries attend to.

Source: Li et al. 2024, https://arxiv.org/abs/2404.14469, Listing 1
Differs from the source: average pooling (the source offers both); scores of grouped heads are
averaged; while decoding it evicts again every `stride` tokens, with the last queries of then.
Cost: the attention of 64 queries at the end of the prompt and every `stride` tokens.
"""

from dataclasses import dataclass

from jeton.kv.observed import PooledPolicy


@dataclass(frozen=True, slots=True)
class SnapKV(PooledPolicy):
    """Attention of the last 64 queries, pooled over neighbours."""
