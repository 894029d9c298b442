"""Drafters and verifiers that are built in."""

from jeton.core.registry import Paper, Registry, Row, Verification

DRAFTERS = Registry(
    "drafters",
    default="prompt_lookup",
    rows={
        "prompt_lookup": Row(
            target="jeton.decoding.drafters.prompt_lookup:PromptLookup",
            summary="draft what followed the last n-gram when it was seen before",
            paper=Paper(
                "Prompt Lookup Decoding",
                2023,
                "https://github.com/apoorvumang/prompt-lookup-decoding",
            ),
            verified=Verification.EXACT,
            evidence="tests/contract/test_decoding.py",
            cost="a few dictionary look-ups per token",
        ),
    },
)

VERIFIERS = Registry(
    "verifiers",
    default="greedy",
    rows={
        "greedy": Row(
            target="jeton.decoding.verifiers.greedy:Greedy",
            summary="keep the path that the argmax follows; equals plain greedy decoding",
            paper=Paper(
                "Fast Inference from Transformers via Speculative Decoding",
                2023,
                "https://arxiv.org/abs/2211.17192",
            ),
            verified=Verification.EXACT,
            evidence="tests/contract/test_decoding.py",
            cost="one argmax per node",
        ),
        "seed_exact": Row(
            target="jeton.decoding.verifiers.seed_exact:SeedExact",
            summary="sampling whose tokens equal plain sampling with the same seed",
            paper=Paper("A* Sampling", 2014, "https://arxiv.org/abs/1411.0030"),
            verified=Verification.EXACT,
            evidence="tests/contract/test_decoding.py",
            cost="one row of noise per depth of the tree",
        ),
    },
)
