"""Methods that learn a vocabulary."""

from jeton.core.registry import Paper, Registry, Row, Verification

_CONTRACT = "tests/contract/test_learners.py"

LEARNERS = Registry(
    "learn",
    default="extend",
    rows={
        "bpe": Row(
            target="jeton.learn.methods.bpe:Bpe",
            summary="byte-level BPE learned afresh; merges equal those of the tokenizers library",
            paper=Paper(
                "Neural Machine Translation of Rare Words with Subword Units",
                2016,
                "https://arxiv.org/abs/1508.07909",
            ),
            verified=Verification.EXACT,
            evidence=_CONTRACT,
            cost="about 0.1 CPU seconds per MB of text",
        ),
        "extend": Row(
            target="jeton.learn.methods.extend:Extend",
            summary="keep every token of a vocabulary and add those that a text needs most",
            paper=Paper(
                "Teaching Old Tokenizers New Words: Efficient Tokenizer Adaptation",
                2025,
                "https://arxiv.org/abs/2512.03989",
            ),
            verified=Verification.EXACT,
            evidence=_CONTRACT,
            cost="about 0.1 CPU seconds per MB of text",
            needs="a byte-level BPE base",
        ),
    },
)
