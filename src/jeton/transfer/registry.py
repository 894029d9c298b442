"""Initializers, healers and recipes that are built in."""

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
        "random": Row(
            target="jeton.transfer.initializers.random:Random",
            summary="copy shared rows; draw new ones from the source's spread (baseline)",
            paper=Paper(
                "WECHSEL: Effective initialization of subword embeddings",
                2022,
                "https://arxiv.org/abs/2112.06598",
            ),
            verified=Verification.FORMULA,
            evidence="tests/golden/transfer/random.json",
            cost="none",
        ),
        "wechsel": Row(
            target="jeton.transfer.initializers.wechsel:Wechsel",
            summary="mix the source tokens nearest in a space of static word vectors",
            paper=Paper(
                "WECHSEL: Effective initialization of subword embeddings",
                2022,
                "https://arxiv.org/abs/2112.06598",
            ),
            verified=Verification.FORMULA,
            evidence="tests/golden/transfer/wechsel.json",
            cost="one pass over the text; cosines of new against source tokens",
            needs="text of the user",
        ),
        "tokenadapt": Row(
            target="jeton.transfer.initializers.tokenadapt:TokenAdapt",
            summary="mix the parts that spelled a token with the source tokens most similar to it",
            paper=Paper(
                "Achieving Tokenizer Flexibility in Language Models through Heuristic Adaptation "
                "and Supertoken Learning",
                2025,
                "https://arxiv.org/abs/2505.09738",
            ),
            verified=Verification.SMALL,
            evidence="python bench/transfer.py",
            cost="one pass over the text; cosines of new against source tokens",
            needs="text of the user",
        ),
        "focus": Row(
            target="jeton.transfer.initializers.focus:Focus",
            summary="sparse mix of the shared tokens near a new one in an auxiliary space",
            paper=Paper(
                "FOCUS: Effective Embedding Initialization for Monolingual Specialization of "
                "Multilingual Models",
                2023,
                "https://arxiv.org/abs/2305.14481",
            ),
            verified=Verification.FORMULA,
            evidence="tests/golden/transfer/focus.json",
            cost="one pass over the text; cosines of new against shared tokens",
            needs="text of the user",
        ),
        "omp": Row(
            target="jeton.transfer.initializers.omp:Omp",
            summary="k-sparse combination of shared tokens, solved in a donor's embedding space",
            paper=Paper(
                "Training-Free Tokenizer Transplantation via Orthogonal Matching Pursuit",
                2025,
                "https://arxiv.org/abs/2506.06607",
            ),
            verified=Verification.FORMULA,
            evidence="tests/golden/transfer/omp.json",
            cost="cosines of new against shared tokens; a small linear system per token and atom",
            needs="text of the user, or --set donor=DIR",
        ),
        "multivariate": Row(
            target="jeton.transfer.initializers.multivariate:Multivariate",
            summary="draw new rows from the normal law of the source's rows (baseline)",
            paper=Paper(
                "Initializing New Word Embeddings for Pretrained Language Models",
                2021,
                "https://nlp.stanford.edu/~johnhew/vocab-expansion.html",
            ),
            verified=Verification.FORMULA,
            evidence="tests/golden/transfer/multivariate.json",
            cost="covariance of the source's rows and its Cholesky factor",
        ),
        "cw2v": Row(
            target="jeton.transfer.initializers.cw2v:Cw2v",
            summary="convex combinations of source rows, weights learned by skip-gram",
            paper=Paper(
                "An Empirical Comparison of Vocabulary Expansion and Initialization Approaches "
                "for Language Models",
                2024,
                "https://arxiv.org/abs/2407.05841",
            ),
            verified=Verification.FORMULA,
            evidence="tests/unit/test_transfer_initializers.py",
            cost="a few hundred skip-gram steps",
            needs="text of the user",
        ),
        "ridge": Row(
            target="jeton.transfer.initializers.ridge:Ridge",
            summary="predict a row from its parts' rows, as the source's own tokens teach",
            paper=Paper(
                "A ridge map learned from the source's own merges", 2025, "docs/transfer.md"
            ),
            verified=Verification.FORMULA,
            evidence="tests/golden/transfer/ridge.json",
            cost="one encoding per new token, and one small linear system",
        ),
        "context_distillation": Row(
            target="jeton.transfer.initializers.context_distillation:ContextDistillation",
            summary="fit the new rows alone so that the frozen model reads text as before",
            paper=Paper(
                "AWEDIST: Attention-aware Embedding Distillation for New Input Token Embeddings",
                2025,
                "https://arxiv.org/abs/2505.20133",
            ),
            verified=Verification.SMALL,
            evidence="python bench/transfer.py",
            cost="training of the new rows alone: passes through the frozen model",
            needs="the source model; text of the user",
        ),
        "zett": Row(
            target="jeton.transfer.initializers.zett:Zett",
            summary="a trained hypernetwork predicts the rows of any tokenizer",
            paper=Paper("Zero-Shot Tokenizer Transfer", 2024, "https://arxiv.org/abs/2405.07883"),
            verified=Verification.SMALL,
            evidence="python recipes/transfer/hypernetwork.py measure",
            cost="one small forward per new token; the network is trained once per base model",
            needs="for models other than the starter --set zett.hypernetwork=DIR, from "
            "`jeton hypernetwork`",
        ),
        "combiner": Row(
            target="jeton.transfer.initializers.combiner:Combiner",
            summary="weighted mean of what other initializers give",
            paper=Paper("Means of initializers with unlike errors", 2025, "docs/transfer.md"),
            verified=Verification.FORMULA,
            evidence="tests/golden/transfer/combiner.json",
            cost="that of its parts together",
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
        "embedding_ce": Row(
            target="jeton.transfer.healers.embedding_ce:EmbeddingCe",
            summary="train the embeddings alone; the body stays bit for bit as it was",
            paper=Paper(
                "On the Cross-lingual Transferability of Monolingual Representations",
                2020,
                "https://arxiv.org/abs/1910.11856",
            ),
            verified=Verification.EXACT,
            evidence="tests/unit/test_transfer_healers.py",
            cost="a training step without the body's optimizer state",
        ),
        "alm": Row(
            target="jeton.transfer.healers.alm:Alm",
            summary="give every chunk of bytes the likelihood that the teacher gives it",
            paper=Paper(
                "Cross-Tokenizer Distillation via Approximate Likelihood Matching",
                2025,
                "https://arxiv.org/abs/2503.20083",
            ),
            verified=Verification.EXACT,
            evidence="tests/golden/transfer/alm.json",
            cost="a forward pass of the teacher beside the training step",
            needs="a teacher; the source model is one",
        ),
        "uld": Row(
            target="jeton.transfer.healers.uld:Uld",
            summary="match the teacher's sorted next-token probabilities (baseline)",
            paper=Paper(
                "Towards Cross-Tokenizer Distillation: the Universal Logit Distillation Loss for "
                "LLMs",
                2024,
                "https://arxiv.org/abs/2402.12030",
            ),
            verified=Verification.FORMULA,
            evidence="tests/golden/transfer/uld.json",
            cost="a forward pass of the teacher, and sorting two vocabularies per position",
            needs="a teacher; the source model is one",
        ),
        "gold": Row(
            target="jeton.transfer.healers.gold:Gold",
            summary="match shared tokens directly, all others by sorted probabilities (baseline)",
            paper=Paper(
                "Unlocking On-Policy Distillation for Any Model Family",
                2025,
                "https://huggingface.co/spaces/HuggingFaceH4/general-on-policy-logit-distillation",
            ),
            verified=Verification.FORMULA,
            evidence="tests/golden/transfer/gold.json",
            cost="a forward pass of the teacher, and sorting two vocabularies per position",
            needs="a teacher; the source model is one",
        ),
        "lora": Row(
            target="jeton.transfer.healers.lora:Lora",
            summary="low-rank adapters on linear layers and full embeddings, merged at the end",
            paper=Paper(
                "LoRA: Low-Rank Adaptation of Large Language Models",
                2021,
                "https://arxiv.org/abs/2106.09685",
            ),
            verified=Verification.EXACT,
            evidence="tests/unit/test_transfer_healers.py",
            cost="a training step with optimizer state for adapters and embeddings only",
            needs="the extra train (PEFT)",
        ),
        "schedule": Row(
            target="jeton.transfer.healers.schedule:Schedule",
            summary="several healers one after the other, each for a share of the steps",
            paper=Paper(
                "Cross-Tokenizer Distillation via Approximate Likelihood Matching",
                2025,
                "https://arxiv.org/abs/2503.20083",
            ),
            verified=Verification.FORMULA,
            evidence="tests/contract/test_transfer.py",
            cost="that of its parts",
        ),
    },
)

RECIPES = Registry(
    "recipes",
    rows={
        "chocollama": Row(
            target="jeton.transfer.recipes.chocollama:ChocoLlama",
            summary="a fresh vocabulary for Dutch, LoRA on linear layers, embeddings in full",
            paper=Paper(
                "ChocoLlama: Lessons Learned From Teaching Llamas Dutch",
                2024,
                "https://arxiv.org/abs/2412.07633",
            ),
            verified=Verification.FORMULA,
            evidence="tests/contract/test_moves.py",
            cost="that of the healer lora",
            needs="Dutch text, the extra train (PEFT)",
        ),
        "cabrita": Row(
            target="jeton.transfer.recipes.cabrita:Cabrita",
            summary="the vocabulary extended for Portuguese, every weight trained on",
            paper=Paper(
                "Cabrita: closing the gap for foreign languages",
                2023,
                "https://arxiv.org/abs/2308.11878",
            ),
            verified=Verification.FORMULA,
            evidence="tests/contract/test_moves.py",
            cost="a training step of the whole model per batch",
            needs="Portuguese text, a BPE source",
        ),
        "vocabulary_expansion": Row(
            target="jeton.transfer.recipes.vocabulary_expansion:VocabularyExpansion",
            summary="a quarter more tokens, started by CW2V, LoRA with the embeddings in full",
            paper=Paper(
                "An Empirical Comparison of Vocabulary Expansion and Initialization Approaches "
                "for Language Models",
                2024,
                "https://arxiv.org/abs/2407.05841",
            ),
            verified=Verification.FORMULA,
            evidence="tests/contract/test_moves.py",
            cost="skip-gram steps, then that of the healer lora",
            needs="text of the user, a BPE source, the extra train (PEFT)",
        ),
    },
)
