"""Ways of training drafts that are built in."""

from jeton.core.registry import Paper, Registry, Row, Verification

_LAWS = "tests/contract/test_draft_training.py, recipes/drafts/direction.py"

DRAFT_TRAINERS = Registry(
    "draft_trainers",
    default="hydra",
    rows={
        "hydra": Row(
            target="jeton.decoding.training.methods.hydra:Hydra",
            summary="heads on the target's hidden state that see the tokens drafted before",
            paper=Paper(
                "Hydra: Sequentially-Dependent Draft Heads for Medusa Decoding",
                2024,
                "https://arxiv.org/abs/2402.05109",
            ),
            verified=Verification.SMALL,
            evidence=_LAWS,
            cost="a forward of the target, some small products per head",
        ),
        "medusa": Row(
            target="jeton.decoding.training.methods.medusa:Medusa",
            summary="heads on the target's hidden state, each for one place further on",
            paper=Paper(
                "Medusa: Simple LLM Inference Acceleration Framework with Multiple Decoding Heads",
                2024,
                "https://arxiv.org/abs/2401.10774",
            ),
            verified=Verification.SMALL,
            evidence=_LAWS,
            cost="a forward of the target, some small products per head",
        ),
        "kangaroo": Row(
            target="jeton.decoding.training.methods.kangaroo:Kangaroo",
            summary="an adapter behind the target's first layers",
            paper=Paper(
                "Kangaroo: Lossless Self-Speculative Decoding via Double Early Exiting",
                2024,
                "https://arxiv.org/abs/2404.18911",
            ),
            verified=Verification.SMALL,
            evidence=_LAWS,
            cost="a forward of the target, a step of the adapter and the output matrix",
        ),
        "specdec_pp": Row(
            target="jeton.decoding.training.methods.specdec_pp:SpecDecPP",
            summary="a head that predicts whether a drafted token will be accepted",
            paper=Paper(
                "SpecDec++: Boosting Speculative Decoding via Adaptive Candidate Lengths",
                2024,
                "https://arxiv.org/abs/2405.19715",
            ),
            verified=Verification.SMALL,
            evidence=_LAWS,
            cost="a forward of the target, two of the draft model",
            needs="a draft model",
        ),
        "fastdraft": Row(
            target="jeton.decoding.training.methods.fastdraft:FastDraft",
            summary="a small model for any target: text first, then the target's own",
            paper=Paper(
                "FastDraft: How to Train Your Draft",
                2024,
                "https://arxiv.org/abs/2411.11055",
            ),
            verified=Verification.SMALL,
            evidence=_LAWS,
            cost="training steps of the small model, forwards of the target",
        ),
        "distillspec": Row(
            target="jeton.decoding.training.methods.distillspec:DistillSpec",
            summary="a draft model learns the target's distribution by a divergence",
            paper=Paper(
                "DistillSpec: Improving Speculative Decoding via Knowledge Distillation",
                2023,
                "https://arxiv.org/abs/2310.08461",
            ),
            verified=Verification.SMALL,
            evidence=_LAWS,
            cost="rows written by a model, a forward of the target, a step of the draft",
            needs="a draft model",
        ),
        "judge": Row(
            target="jeton.decoding.training.methods.judge:Judge",
            summary="a head that tells right tokens from wrong ones",
            paper=Paper(
                "Judge Decoding: Faster Speculative Sampling Requires Going Beyond Model Alignment",
                2025,
                "https://arxiv.org/abs/2501.19309",
            ),
            verified=Verification.SMALL,
            evidence=_LAWS,
            cost="a forward of the target",
        ),
    },
)
