"""Whether drafts change a single token, over as many prompts as are asked for."""

import random
from dataclasses import dataclass
from typing import Any

from jeton.core.progress import NO_PROGRESS, Progress
from jeton.decoding.contract import Drafter, Sampling
from jeton.decoding.create import default_verifier
from jeton.decoding.engine import DecodingLoop
from jeton.lm.load import LanguageModel
from jeton.lm.runner import Runner
from jeton.testing.decoding import Adversary


@dataclass(frozen=True)
class Identity:
    """How many texts are the same with drafts as without.

    Attributes:
        num_prompts: Of random tokens.
        same_with_chains: Prompts whose text an adversary's chains left as it was.
        same_with_trees: The same for its trees.
        num_accepted: Draft tokens that held, so that drafts really were at work.
        num_near_ties: Choices that rounding could have decided, in forwards without a promise.
    """

    num_prompts: int
    same_with_chains: int
    same_with_trees: int
    num_accepted: int
    num_near_ties: int


def check_identity(
    lm: LanguageModel,
    num_prompts: int,
    *,
    num_prompt_tokens: int = 16,
    max_new_tokens: int = 16,
    num_draft_tokens: int = 6,
    sampling: Sampling | None = None,
    seed: int = 0,
    progress: Progress = NO_PROGRESS,
) -> Identity:
    """Decode prompts plainly, with wild chains and with wild trees; count the equal texts.

    Args:
        lm: Any dtype; within `packed` for the promise of equal bits.
        num_prompts: Of random ids.
        num_prompt_tokens: Of each.
        max_new_tokens: Of each.
        num_draft_tokens: Nodes per draft.
        sampling: None is greedy; with a temperature every prompt has a seed of its own.
        seed: Of prompts and drafts.
        progress: Shown by prompt.
    """
    rng, base = random.Random(seed), sampling or Sampling()
    runner = Runner(lm.model)
    same, accepted, ties = [0, 0], 0, 0
    for number in progress.track(range(num_prompts), num_prompts, "identity", "prompt"):
        prompt = [rng.randrange(lm.vocabulary.vocab_size) for _ in range(num_prompt_tokens)]
        now = Sampling(
            temperature=base.temperature,
            top_k=base.top_k,
            top_p=base.top_p,
            min_p=base.min_p,
            repetition_penalty=base.repetition_penalty,
            seed=base.seed + number,
        )

        def decode(
            drafter: Drafter | None, now: Sampling = now, ids: list[int] = prompt
        ) -> list[int]:
            nonlocal accepted, ties
            loop = DecodingLoop(
                lm,
                drafter=drafter,
                verifier=default_verifier(now),
                sampling=now,
                num_draft_tokens=num_draft_tokens,
                runner=runner,
            )
            found = [token for new in loop.run(ids, max_new_tokens) for token in new]
            accepted += loop.stats.num_accepted
            ties += loop.stats.num_near_ties
            return found

        plain = decode(None)
        for place, makes_trees in enumerate((False, True)):
            if makes_trees and not runner.supports_trees:
                continue
            wild: Any = Adversary([*prompt, *plain], seed=seed + number, makes_trees=makes_trees)
            same[place] += decode(wild) == plain
    return Identity(num_prompts, same[0], same[1], accepted, ties)
