"""Initializers and healers that are built in."""

from jeton.core.registry import Paper, Registry, Row, Verification

INITIALIZERS = Registry(
    "initializers",
    default="mean",
    rows={
        "mean": Row(
            target="jeton.transfer.initializers.mean:Mean",
            summary="copy shared rows; a new token is the mean of the rows that spelled it (FVT)",
            paper=Paper(
                "Fast Vocabulary Transfer for Language Model Compression",
                2022,
                "https://aclanthology.org/2022.emnlp-industry.41",
            ),
            verified=Verification.EXACT,
            evidence="tests/golden/transfer/mean.json",
            cost="one encoding per new token",
        ),
    },
)

HEALERS = Registry(
    "healers",
    default="cross_entropy",
    rows={
        "cross_entropy": Row(
            target="jeton.transfer.healers.cross_entropy:CrossEntropy",
            summary="train embeddings first, then everything, on the user's text and some replay",
            paper=Paper(
                "An Empirical Comparison of Vocabulary Expansion and Initialization Approaches",
                2024,
                "https://arxiv.org/abs/2407.05841",
            ),
            verified=Verification.SMALL,
            evidence="python bench/retrofit.py",
            cost="one training step of the model per batch",
        ),
    },
)
