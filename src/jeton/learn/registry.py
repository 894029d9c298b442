"""Methods that learn a vocabulary."""

from jeton.core.registry import Paper, Registry, Row, Verification

_SUPERBPE = "https://arxiv.org/abs/2503.13423"
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
            cost="about 0.06 CPU seconds per MB of text",
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
            needs="a BPE base, byte-level or with byte fallback",
        ),
        "superbpe": Row(
            target="jeton.learn.methods.superbpe:SuperBpe",
            summary="BPE inside words first, then merges across the spaces between them",
            paper=Paper("SuperBPE: Space Travel for Language Models", 2025, _SUPERBPE),
            verified=Verification.EXACT,
            evidence="tests/unit/test_learn_methods.py",
            cost="about 0.5 CPU seconds per MB of the second stage's sample",
        ),
        "supertokens": Row(
            target="jeton.learn.methods.supertokens:Supertokens",
            summary="BPE over random chunks of words, so that frequent phrases become tokens",
            paper=Paper(
                "Achieving Tokenizer Flexibility in Language Models through Heuristic Adaptation "
                "and Supertoken Learning",
                2025,
                "https://arxiv.org/abs/2505.09738",
            ),
            verified=Verification.SMALL,
            evidence="tests/unit/test_learn_methods.py",
            cost="about 0.5 CPU seconds per MB of text",
        ),
        "kl3m_char": Row(
            target="jeton.learn.methods.kl3m_char:Kl3mChar",
            summary="BPE whose tokens have at most a few characters, for text with wrong letters",
            paper=Paper(
                "KL3M Tokenizers: A Family of Domain-Specific and Character-Level Tokenizers for "
                "Legal, Financial, and Preprocessing Applications",
                2025,
                "https://arxiv.org/abs/2503.17247",
            ),
            verified=Verification.EXACT,
            evidence="tests/unit/test_learn_methods.py",
            cost="about 0.1 CPU seconds per MB of text",
        ),
        "parity_bpe": Row(
            target="jeton.learn.methods.parity_bpe:ParityBpe",
            summary="BPE whose merges serve the language that is compressed worst at that moment",
            paper=Paper(
                "Parity-Aware Byte-Pair Encoding: Improving Cross-lingual Fairness in Tokenization",
                2025,
                "https://arxiv.org/abs/2508.04796",
            ),
            verified=Verification.SMALL,
            evidence="tests/unit/test_learn_methods.py",
            cost="like bpe, and a few microseconds for each merge and language",
            needs="a folder or file for each language",
        ),
        "unigram": Row(
            target="jeton.learn.methods.unigram:Unigram",
            summary="drop, from all frequent pieces, those that the text misses least",
            paper=Paper(
                "Subword Regularization: Improving Neural Network Translation Models with Multiple "
                "Subword Candidates",
                2018,
                "https://arxiv.org/abs/1804.10959",
            ),
            verified=Verification.SMALL,
            evidence="tests/unit/test_learn_pieces.py",
            cost="about 20 passes over the distinct pretokens",
        ),
        "lib": Row(
            target="jeton.learn.methods.lib:Lib",
            summary="read with the least effort: remember what stands together, forget the rest",
            paper=Paper(
                "Rethinking Tokenization: Crafting Better Tokenizers for Large Language Models",
                2024,
                "https://arxiv.org/abs/2403.00417",
            ),
            verified=Verification.SMALL,
            evidence="tests/unit/test_learn_pieces.py",
            cost="about 5 CPU seconds per MB of its sample and pass",
        ),
    },
)

SEGMENTERS = Registry(
    "segmenters",
    rows={
        "stochastok": Row(
            target="jeton.learn.segmenters.stochastok:Stochastok",
            summary="cut random tokens in two, so that a model sees their insides",
            paper=Paper(
                "StochasTok: Improving Fine-Grained Subword Understanding in LLMs",
                2025,
                "https://arxiv.org/abs/2506.01687",
            ),
            verified=Verification.EXACT,
            evidence="tests/contract/test_segmenters.py",
            cost="about 100 nanoseconds per token",
        ),
        "bpe_dropout": Row(
            target="jeton.learn.segmenters.bpe_dropout:BpeDropout",
            summary="encode with each merge left out by chance",
            paper=Paper(
                "BPE-Dropout: Simple and Effective Subword Regularization",
                2020,
                "https://arxiv.org/abs/1910.13267",
            ),
            verified=Verification.EXACT,
            evidence="tests/contract/test_segmenters.py",
            cost="a pass over the pairs of a pretoken for each of its merges",
            needs="byte-level BPE",
        ),
        "dynamic": Row(
            target="jeton.learn.segmenters.dynamic:Dynamic",
            summary="join the most frequent neighbours of a batch into new tokens",
            paper=Paper(
                "Retrofitting Large Language Models with Dynamic Tokenization",
                2024,
                "https://arxiv.org/abs/2411.18553",
            ),
            verified=Verification.EXACT,
            evidence="tests/contract/test_segmenters.py",
            cost="one short pass over the batch for each merge",
        ),
        "equal_info": Row(
            target="jeton.learn.segmenters.equal_info:EqualInfo",
            summary="windows of bytes that a small byte model writes in equally many bits",
            paper=Paper(
                "Training LLMs over Neurally Compressed Text",
                2024,
                "https://arxiv.org/abs/2404.03626",
            ),
            verified=Verification.EXACT,
            evidence="tests/contract/test_segmenters.py",
            cost="a few hundred nanoseconds per byte",
        ),
    },
)
