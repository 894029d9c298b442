"""The metrics of an audit, in the order in which a report shows them."""

from jeton.core.registry import Paper, Registry, Row, Verification

_HOUSE = Paper("Common practice, defined in jeton's docs", 2026, "docs/audit.md")
_ONE_PASS = "one pass over the vocabulary"
_ONE_ENCODING = "one encoding of the text"

METRICS = Registry(
    "audit",
    {
        "bytes_per_token": Row(
            target="jeton.audit.metrics.bytes_per_token:BytesPerToken",
            summary="bytes of text per token, in all and per language",
            paper=_HOUSE,
            verified=Verification.EXACT,
            evidence="tests/golden/audit/bytes_per_token.json",
            cost=_ONE_ENCODING,
            needs="text",
        ),
        "fertility": Row(
            target="jeton.audit.metrics.fertility:Fertility",
            summary="tokens per word",
            paper=Paper(
                "How Good is Your Tokenizer? On the Monolingual Performance of Multilingual "
                "Language Models",
                2021,
                "https://arxiv.org/abs/2012.15613",
            ),
            verified=Verification.EXACT,
            evidence="tests/golden/audit/fertility.json",
            cost=_ONE_ENCODING,
            needs="text",
        ),
        "utilisation": Row(
            target="jeton.audit.metrics.utilisation:Utilisation",
            summary="share of the vocabulary that the text uses, and its Zipf curve",
            paper=_HOUSE,
            verified=Verification.EXACT,
            evidence="tests/golden/audit/utilisation.json",
            cost=_ONE_ENCODING,
            needs="text",
        ),
        "renyi_efficiency": Row(
            target="jeton.audit.metrics.renyi_efficiency:RenyiEfficiency",
            summary="how evenly the text spreads over the vocabulary",
            paper=Paper(
                "Tokenization and the Noiseless Channel", 2023, "https://arxiv.org/abs/2306.16842"
            ),
            verified=Verification.EXACT,
            evidence="tests/golden/audit/renyi_efficiency.json",
            cost=_ONE_ENCODING,
            needs="text",
        ),
        "token_kinds": Row(
            target="jeton.audit.metrics.token_kinds:TokenKinds",
            summary="how many ids are text, bytes, special, added, unused",
            paper=_HOUSE,
            verified=Verification.EXACT,
            evidence="tests/golden/audit/token_kinds.json",
            cost=_ONE_PASS,
        ),
        "duplicates": Row(
            target="jeton.audit.metrics.duplicates:Duplicates",
            summary="ids with the same bytes as another id",
            paper=_HOUSE,
            verified=Verification.EXACT,
            evidence="tests/golden/audit/duplicates.json",
            cost=_ONE_PASS,
        ),
        "dead": Row(
            target="jeton.audit.metrics.dead:Dead",
            summary="ids that no text can produce, each with a proof",
            paper=Paper(
                "Fishing for Magikarp: Automatically Detecting Under-trained Tokens in Large "
                "Language Models",
                2024,
                "https://arxiv.org/abs/2405.05417",
            ),
            verified=Verification.EXACT,
            evidence="tests/property/test_audit_reachability.py",
            cost="a few encodings of the vocabulary",
        ),
        "shadowed": Row(
            target="jeton.audit.metrics.shadowed:Shadowed",
            summary="ids that contain the text of an added token, which always matches first",
            paper=_HOUSE,
            verified=Verification.EXACT,
            evidence="tests/unit/test_audit_defects.py",
            cost="a few encodings of the vocabulary",
        ),
        "partial_utf8": Row(
            target="jeton.audit.metrics.partial_utf8:PartialUtf8",
            summary="tokens that are pieces of characters",
            paper=_HOUSE,
            verified=Verification.EXACT,
            evidence="tests/golden/audit/partial_utf8.json",
            cost=_ONE_PASS,
        ),
        "round_trip": Row(
            target="jeton.audit.metrics.round_trip:RoundTrip",
            summary="text that does not come back from its tokens, by cause",
            paper=_HOUSE,
            verified=Verification.EXACT,
            evidence="tests/unit/test_audit_defects.py",
            cost="one encoding of a sample of lines",
        ),
        "digits": Row(
            target="jeton.audit.metrics.digits:Digits",
            summary="how numbers are cut: single digits, groups from the left or right, no rule",
            paper=Paper(
                "Tokenization counts: the impact of tokenization on arithmetic in frontier LLMs",
                2024,
                "https://arxiv.org/abs/2402.14903",
            ),
            verified=Verification.EXACT,
            evidence="tests/golden/audit/digits.json",
            cost="600 short encodings",
        ),
        "whitespace": Row(
            target="jeton.audit.metrics.whitespace:Whitespace",
            summary="what indentation and line ends cost",
            paper=Paper(
                "Evaluating Large Language Models Trained on Code",
                2021,
                "https://arxiv.org/abs/2107.03374",
            ),
            verified=Verification.EXACT,
            evidence="tests/golden/audit/whitespace.json",
            cost="50 short encodings",
        ),
        "token_length": Row(
            target="jeton.audit.metrics.token_length:TokenLength",
            summary="length of tokens by type and by use",
            paper=_HOUSE,
            verified=Verification.EXACT,
            evidence="tests/golden/audit/token_length.json",
            cost=_ONE_PASS,
        ),
    },
)
