"""Drafters and verifiers that are built in."""

from jeton.core.registry import Paper, Registry, Row, Verification

_CONTRACT = "tests/contract/test_decoding.py"
_LAWS = "tests/contract/test_decoding_laws.py"
_SPECULATIVE = Paper(
    "Fast Inference from Transformers via Speculative Decoding",
    2023,
    "https://arxiv.org/abs/2211.17192",
)
_RSD = Paper(
    "Recursive Speculative Decoding: Accelerating LLM Inference via Sampling Without Replacement",
    2024,
    "https://arxiv.org/abs/2402.14160",
)

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
            evidence=_CONTRACT,
            cost="a few dictionary look-ups per token",
        ),
        "token_recycling": Row(
            target="jeton.decoding.drafters.token_recycling:TokenRecycling",
            summary="draft a tree from the candidates that the target gave before",
            paper=Paper(
                "Turning Trash into Treasure: Accelerating Inference of Large Language Models "
                "with Token Recycling",
                2024,
                "https://arxiv.org/abs/2408.08696",
            ),
            verified=Verification.EXACT,
            evidence=_CONTRACT,
            cost="one top-k per verified node",
        ),
        "aded": Row(
            target="jeton.decoding.drafters.aded:ADED",
            summary="draft by tree search in a tri-gram model that follows the target",
            paper=Paper(
                "Adaptive Draft-Verification for Efficient Large Language Model Decoding",
                2024,
                "https://arxiv.org/abs/2407.12021",
            ),
            verified=Verification.EXACT,
            evidence=_CONTRACT,
            cost="one top-k per verified node, some hundred dictionary steps per draft",
        ),
        "lookahead": Row(
            target="jeton.decoding.drafters.lookahead:Lookahead",
            summary="draft the most frequent continuations from a trie of the text so far",
            paper=Paper(
                "Lookahead: An Inference Acceleration Framework for Large Language Model with "
                "Lossless Generation Accuracy",
                2023,
                "https://arxiv.org/abs/2312.12728",
            ),
            verified=Verification.EXACT,
            evidence=_CONTRACT,
            cost="a dozen dictionary steps per token",
        ),
        "rest": Row(
            target="jeton.decoding.drafters.rest:REST",
            summary="draft what followed the last tokens in a datastore of text",
            paper=Paper(
                "REST: Retrieval-Based Speculative Decoding",
                2023,
                "https://arxiv.org/abs/2311.08252",
            ),
            verified=Verification.EXACT,
            evidence=_CONTRACT,
            cost="binary searches and some short reads per step",
            needs="a datastore (option store)",
        ),
        "draft_model": Row(
            target="jeton.decoding.drafters.draft_model:DraftModel",
            summary="draft a chain with a smaller model of the same vocabulary",
            paper=_SPECULATIVE,
            verified=Verification.EXACT,
            evidence=_CONTRACT,
            cost="one forward of the draft model per drafted token",
            needs="a draft model",
        ),
        "cross_vocabulary": Row(
            target="jeton.decoding.drafters.cross_vocabulary:CrossVocabulary",
            summary="draft text with a model of any vocabulary, in the target's tokens",
            paper=Paper(
                "Accelerating LLM Inference with Lossless Speculative Decoding Algorithms for "
                "Heterogeneous Vocabularies",
                2025,
                "https://arxiv.org/abs/2502.05202",
            ),
            verified=Verification.EXACT,
            evidence=_CONTRACT,
            cost="one forward of the draft model per token that it writes",
            needs="a draft model, of any vocabulary",
        ),
        "draft_tree": Row(
            target="jeton.decoding.drafters.draft_tree:DraftTree",
            summary="draft a tree of constant branching with a smaller model",
            paper=_RSD,
            verified=Verification.EXACT,
            evidence=_CONTRACT,
            cost="one forward of the draft model per level",
            needs="a draft model",
        ),
        "dyspec": Row(
            target="jeton.decoding.drafters.dyspec:DySpec",
            summary="draft a tree that grows where a smaller model is sure",
            paper=Paper(
                "DySpec: Faster Speculative Decoding with Dynamic Token Tree Structure",
                2024,
                "https://arxiv.org/abs/2410.11744",
            ),
            verified=Verification.EXACT,
            evidence=_CONTRACT,
            cost="one forward of the draft model per level",
            needs="a draft model",
        ),
        "medusa": Row(
            target="jeton.decoding.drafters.medusa:Medusa",
            summary="draft with heads on the target's hidden state, one per place",
            paper=Paper(
                "Medusa: Simple LLM Inference Acceleration Framework with Multiple Decoding Heads",
                2024,
                "https://arxiv.org/abs/2401.10774",
            ),
            verified=Verification.EXACT,
            evidence=_CONTRACT,
            cost="a few small matrix products per step",
            needs="trained weights (jeton draft train)",
        ),
        "hydra": Row(
            target="jeton.decoding.drafters.hydra:Hydra",
            summary="draft with heads that see the tokens drafted before them",
            paper=Paper(
                "Hydra: Sequentially-Dependent Draft Heads for Medusa Decoding",
                2024,
                "https://arxiv.org/abs/2402.05109",
            ),
            verified=Verification.EXACT,
            evidence=_CONTRACT,
            cost="a few small matrix products per level",
            needs="trained weights (jeton draft train)",
        ),
        "kangaroo": Row(
            target="jeton.decoding.drafters.kangaroo:Kangaroo",
            summary="draft a chain with the target's first layers and an adapter",
            paper=Paper(
                "Kangaroo: Lossless Self-Speculative Decoding via Double Early Exiting",
                2024,
                "https://arxiv.org/abs/2404.18911",
            ),
            verified=Verification.EXACT,
            evidence=_CONTRACT,
            cost="the first layers per drafted token, and once more per verified one",
            needs="trained weights (jeton draft train)",
        ),
        "specdec_pp": Row(
            target="jeton.decoding.drafters.specdec_pp:SpecDecPP",
            summary="draft with a smaller model as long as a trained head expects acceptance",
            paper=Paper(
                "SpecDec++: Boosting Speculative Decoding via Adaptive Candidate Lengths",
                2024,
                "https://arxiv.org/abs/2405.19715",
            ),
            verified=Verification.EXACT,
            evidence=_CONTRACT,
            cost="one forward of the draft model per drafted token, and the head",
            needs="a draft model and trained weights (jeton draft train)",
        ),
        "pearl": Row(
            target="jeton.decoding.drafters.pearl:PEARL",
            summary="draft with a smaller model while the target verifies",
            paper=Paper(
                "Parallel Speculative Decoding with Adaptive Draft Length",
                2024,
                "https://arxiv.org/abs/2408.11850",
            ),
            verified=Verification.EXACT,
            evidence=_CONTRACT,
            cost="one forward of the draft model per drafted token, in a second thread",
            needs="a draft model",
        ),
        "rapid": Row(
            target="jeton.decoding.drafters.rapid:RAPID",
            summary="draft with a model that reads a shorter, retrieved context",
            paper=Paper(
                "Long-Context Inference with Retrieval-Augmented Speculative Decoding",
                2025,
                "https://arxiv.org/abs/2502.20330",
            ),
            verified=Verification.EXACT,
            evidence=_CONTRACT,
            cost="one forward of the draft model per drafted token",
            needs="a draft model",
        ),
        "rasd": Row(
            target="jeton.decoding.drafters.rasd:RASD",
            summary="fuse a draft model's tree with retrieved text that it finds likely",
            paper=Paper(
                "RASD: Retrieval-Augmented Speculative Decoding",
                2025,
                "https://arxiv.org/abs/2503.03434",
            ),
            verified=Verification.EXACT,
            evidence=_CONTRACT,
            cost="one forward of the draft model per level, and the retrieval",
            needs="a draft model",
        ),
        "online": Row(
            target="jeton.decoding.drafters.online:Online",
            summary="draft with a smaller model that keeps learning from the target",
            paper=Paper(
                "Online Speculative Decoding",
                2023,
                "https://arxiv.org/abs/2310.07177",
            ),
            verified=Verification.EXACT,
            evidence=_CONTRACT,
            cost="one forward of the draft model per token, a training step now and then",
            needs="a draft model",
        ),
        "auto": Row(
            target="jeton.decoding.drafters.auto:Auto",
            summary="choose among drafters, and none, while decoding",
            paper=Paper("What pays on this text", 2026, "docs/decoding.md"),
            verified=Verification.EXACT,
            evidence=_CONTRACT,
            cost="that of the chosen drafter; hardly anything while none pays",
        ),
        "merge": Row(
            target="jeton.decoding.drafters.merge:Merge",
            summary="merge the trees of several drafters; name them with + instead",
            paper=Paper(
                "RASD: Retrieval-Augmented Speculative Decoding",
                2025,
                "https://arxiv.org/abs/2503.03434",
            ),
            verified=Verification.EXACT,
            evidence=_CONTRACT,
            cost="that of its drafters",
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
            paper=_SPECULATIVE,
            verified=Verification.EXACT,
            evidence=_CONTRACT,
            cost="one argmax per node",
        ),
        "seed_exact": Row(
            target="jeton.decoding.verifiers.seed_exact:SeedExact",
            summary="sampling whose tokens equal plain sampling with the same seed",
            paper=Paper("A* Sampling", 2014, "https://arxiv.org/abs/1411.0030"),
            verified=Verification.EXACT,
            evidence=_CONTRACT,
            cost="one row of noise per accepted token",
        ),
        "speculative": Row(
            target="jeton.decoding.verifiers.speculative:Speculative",
            summary="speculative sampling of a chain; the target's law",
            paper=_SPECULATIVE,
            verified=Verification.EXACT,
            evidence=_LAWS,
            cost="one softmax per accepted token",
        ),
        "multi_round": Row(
            target="jeton.decoding.verifiers.multi_round:MultiRound",
            summary="speculative sampling of a tree, draws with replacement; the target's law",
            paper=Paper(
                "SpecInfer: Accelerating Generative Large Language Model Serving with Tree-based "
                "Speculative Inference and Verification",
                2023,
                "https://arxiv.org/abs/2305.09781",
            ),
            verified=Verification.EXACT,
            evidence=_LAWS,
            cost="one softmax per accepted token, one residual per rejected one",
        ),
        "rsd": Row(
            target="jeton.decoding.verifiers.rsd:RSD",
            summary="speculative sampling of a tree, draws without replacement; the target's law",
            paper=_RSD,
            verified=Verification.EXACT,
            evidence=_LAWS,
            cost="one softmax per accepted token, one residual per rejected one",
        ),
        "spectr": Row(
            target="jeton.decoding.verifiers.spectr:SpecTr",
            summary="k-SEQ: any of k independent drafts, near the optimum; the target's law",
            paper=Paper(
                "SpecTr: Fast Speculative Decoding via Optimal Transport",
                2023,
                "https://arxiv.org/abs/2310.15141",
            ),
            verified=Verification.EXACT,
            evidence=_LAWS,
            cost="some fifty passes over the vocabulary per judged node",
            needs="a drafter that draws: draft_model or draft_tree",
        ),
        "optimal_transport": Row(
            target="jeton.decoding.verifiers.optimal_transport:OptimalTransport",
            summary="the optimum for k independent drafts: no exact rule keeps more; target's law",
            paper=Paper(
                "Towards Optimal Multi-draft Speculative Decoding",
                2025,
                "https://arxiv.org/abs/2502.18779",
            ),
            verified=Verification.EXACT,
            evidence=_LAWS,
            cost="some milliseconds per judged node",
            needs="a drafter that draws: draft_model or draft_tree",
        ),
        "judge": Row(
            target="jeton.decoding.verifiers.judge:Judge",
            summary="lossy: also keep drafted tokens that a trained head finds right",
            paper=Paper(
                "Judge Decoding: Faster Speculative Sampling Requires Going Beyond Model Alignment",
                2025,
                "https://arxiv.org/abs/2501.19309",
            ),
            verified=Verification.FORMULA,
            evidence="tests/unit/test_decoding_judge.py",
            cost="one product of the hidden size per drafted token",
            needs="a trained head (option head)",
        ),
    },
)
