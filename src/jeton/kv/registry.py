"""Cache policies that are built in."""

from typing import TYPE_CHECKING, Any

from jeton.core.registry import Paper, Registry, Row, Verification
from jeton.errors import ConfigError

if TYPE_CHECKING:
    from jeton.kv.contract import CachePolicy

_CONTRACT = "tests/contract/test_kv.py"
_RANKS = f"{_CONTRACT}::test_policies_that_claim_it_rank_as_their_papers_say"
_MEASURED = Verification.SMALL  # ranks as its paper says, on key-value chains


def _row(
    module: str,
    name: str,
    summary: str,
    paper: Paper,
    cost: str,
    verified: Verification = Verification.FORMULA,
) -> Row:
    return Row(
        target=f"jeton.kv.policies.{module}:{name}",
        summary=summary,
        paper=paper,
        verified=verified,
        evidence=_CONTRACT if verified is Verification.FORMULA else _RANKS,
        cost=cost,
    )


_MASS = "the exact attention mass of the prompt; a second product per step"
_ALL_STAY = "all keys stay in memory"

POLICIES = Registry(
    "kv",
    default="tokenselect",
    rows={
        "h2o": _row(
            "h2o",
            "H2O",
            "keep the recent tokens and those with the most attention so far",
            Paper(
                "H2O: Heavy-Hitter Oracle for Efficient Generative Inference of Large Language "
                "Models",
                2023,
                "https://arxiv.org/abs/2306.14048",
            ),
            _MASS,
        ),
        "keyformer": _row(
            "keyformer",
            "Keyformer",
            "keep by attention under Gumbel noise and a rising temperature",
            Paper(
                "Keyformer: KV Cache Reduction through Key Tokens Selection for Efficient "
                "Generative Inference",
                2024,
                "https://arxiv.org/abs/2403.09054",
            ),
            _MASS,
            _MEASURED,
        ),
        "a2sf": _row(
            "a2sf",
            "A2SF",
            "keep by attention in which old queries are forgotten",
            Paper(
                "A2SF: Accumulative Attention Scoring with Forgetting Factor for Token Pruning in "
                "Transformer Decoder",
                2024,
                "https://arxiv.org/abs/2407.20485",
            ),
            _MASS,
            _MEASURED,
        ),
        "tokenselect": _row(
            "tokenselect",
            "TokenSelect",
            "attend to the tokens that all heads vote for; similar queries reuse the vote",
            Paper(
                "TokenSelect: Efficient Long-Context Inference and Length Extrapolation for LLMs "
                "via Dynamic Token-Level KV Cache Selection",
                2024,
                "https://arxiv.org/abs/2411.02886",
            ),
            f"a product of the query with all keys when it votes; {_ALL_STAY}",
            _MEASURED,
        ),
        "recycled_attention": _row(
            "recycled_attention",
            "RecycledAttention",
            "attend to what the last full step attended to most",
            Paper(
                "Recycled Attention: Efficient inference for long-context language models",
                2024,
                "https://arxiv.org/abs/2411.05787",
            ),
            f"one full step per period; {_ALL_STAY}",
            _MEASURED,
        ),
        "page_bounds": _row(
            "page_bounds",
            "PageBounds",
            "attend to the pages whose keys could score highest (Quest)",
            Paper(
                "Quest: Query-Aware Sparsity for Efficient Long-Context LLM Inference",
                2024,
                "https://arxiv.org/abs/2406.10774",
            ),
            f"two vectors per page and head are read per step; {_ALL_STAY}",
            _MEASURED,
        ),
        "streaming": _row(
            "streaming",
            "Streaming",
            "keep the first tokens and the last ones",
            Paper(
                "Efficient Streaming Language Models with Attention Sinks",
                2023,
                "https://arxiv.org/abs/2309.17453",
            ),
            "nothing",
        ),
        "snapkv": _row(
            "snapkv",
            "SnapKV",
            "keep the clusters that the last 64 queries attend to",
            Paper(
                "SnapKV: LLM Knows What You are Looking for Before Generation",
                2024,
                "https://arxiv.org/abs/2404.14469",
            ),
            "the attention of 64 queries per eviction",
        ),
        "tova": _row(
            "tova",
            "TOVA",
            "drop what the last query attends to least",
            Paper("Transformers are Multi-State RNNs", 2024, "https://arxiv.org/abs/2401.06104"),
            "the attention of one query per eviction",
        ),
        "knorm": _row(
            "knorm",
            "Knorm",
            "keep the tokens whose keys are short",
            Paper(
                "A Simple and Effective L2 Norm-Based Strategy for KV Cache Compression",
                2024,
                "https://arxiv.org/abs/2406.11430",
            ),
            "one norm per key and eviction",
        ),
        "keydiff": _row(
            "keydiff",
            "KeyDiff",
            "keep the tokens whose keys are unlike the mean key",
            Paper(
                "KeyDiff: Key Similarity-Based KV Cache Eviction for Long-Context LLM Inference "
                "in Resource-Constrained Environments",
                2025,
                "https://arxiv.org/abs/2504.15364",
            ),
            "one cosine per key and eviction",
        ),
        "adakv": _row(
            "adakv",
            "AdaKV",
            "share the budget of a layer unequally among its heads",
            Paper(
                "Ada-KV: Optimizing KV Cache Eviction by Adaptive Budget Allocation for Efficient "
                "LLM Inference",
                2024,
                "https://arxiv.org/abs/2407.11550",
            ),
            "the attention of 64 queries per eviction; one attention call per head",
        ),
    },
)


def create_policy(
    name: str, *, budget: int | None = None, options: dict[str, Any] | None = None
) -> "CachePolicy":
    """Return a policy by name.

    Args:
        name: Of the registry.
        budget: Tokens kept or attended; the policy's default when None.
        options: Other fields of the policy.
    Raises:
        UnknownMethodError: there is no such policy.
        ConfigError: an option it does not have, or a value it refuses.
    Example:
        >>> create_policy("knorm", budget=64).budget
        64
    """
    given = dict(options or {})
    if budget is not None:
        if "budget" in given:
            raise ConfigError("the budget is given twice", hint="give it once")
        given["budget"] = budget
    policy: CachePolicy = POLICIES.create(name, given)
    return policy
