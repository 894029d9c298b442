"""Whether a model's logits are the same bits in a forward of one token and in one of many.

With rows that do not depend on each other's number, on this machine and in this dtype, greedy
decoding with any draft of up to 32 nodes gives the bits of decoding without one, in bf16 too.
That is found here by trying; where it does not hold, an argmax can differ only at a near tie,
and those are counted (`near_tie_margin`).
"""

import random
from dataclasses import dataclass

import torch
from torch import Tensor

from jeton.lm.lean import MAX_EXACT_NODES
from jeton.lm.runner import Runner
from jeton.lm.tree import TokenTree

_WIDTHS = (2, 3, 5, 8, 13, 16, 17, 24, 31, 32)
# Of the largest logit: eight units in the last place, what a few layers' rounding moves a logit.
_NEAR = {torch.float32: 1e-6, torch.bfloat16: 2**-5, torch.float16: 2**-8}


@dataclass(frozen=True)
class BitwiseCheck:
    """What the trial showed.

    Attributes:
        holds: Whether every logit of every width was the same bits as that of single steps.
        max_nodes: The widest forward for which it was tried.
        worst: The largest difference of a logit.
        reason: In words.
    """

    holds: bool
    max_nodes: int
    worst: float
    reason: str


def check_bitwise(runner: Runner, *, seed: int = 0) -> BitwiseCheck:
    """Compare single steps with chains and trees of up to 32 nodes, bit by bit.

    Args:
        runner: Its cache is left alone.
        seed: Of the tokens.
    """
    trial = runner.fork()
    rng = random.Random(seed)
    most = min(MAX_EXACT_NODES, max(1, (trial.max_length - 9) // 2))
    text = [rng.randrange(trial.num_embeddings) for _ in range(most + 9)]
    worst, failed = 0.0, []
    expected = _one_by_one(trial, text[:9], text[9:])
    for width in (n for n in _WIDTHS if n <= most):
        trees = [_chain_with_noise(text[9:], width, rng, is_chain=True)]
        if trial.supports_trees:
            trees.append(_chain_with_noise(text[9:], width, rng, is_chain=False))
        for tree, right_nodes in trees:
            trial.reset()
            trial.prefill(text[:9])
            found = trial.verify(tree).logits[right_nodes]
            right = expected[: len(right_nodes)]
            if not torch.equal(found, right):
                worst = max(worst, float((found - right).abs().max()))
                failed.append(width)
    if failed:
        words = f"forwards of {sorted(set(failed))} nodes round differently from single steps"
    else:
        words = f"chains and trees of up to {most} nodes have the bits of single steps"
    return BitwiseCheck(not failed, most, worst, words)


def near_tie_margin(logits: Tensor, dtype: torch.dtype) -> Tensor:
    """Return the distance of the two best logits below which rounding may decide.

    Args:
        logits: Shape (..., num_embeddings).
        dtype: Of the model's weights.
    """
    return logits.abs().amax(-1) * _NEAR.get(dtype, 1e-6)


def _one_by_one(trial: Runner, prompt: list[int], ids: list[int]) -> Tensor:
    """Return the logits after each token, read one at a time, shape (tokens, num_embeddings)."""
    trial.reset()
    trial.prefill(prompt)
    rows = []
    for token_id in ids:
        rows.append(trial.verify(TokenTree.chain([token_id])).logits[0])
        trial.commit([0])
    return torch.stack(rows)


def _chain_with_noise(
    ids: list[int], width: int, rng: random.Random, *, is_chain: bool
) -> tuple[TokenTree, list[int]]:
    """Return a tree that holds the text's next tokens as one path, and that path's nodes."""
    if is_chain:
        return TokenTree.chain(ids[:width]), list(range(width))
    token_ids, parents, path = [ids[0]], [-1], [0]
    while len(token_ids) < width:
        if rng.random() < 0.5 and len(path) < len(ids):
            parents.append(path[-1])
            path.append(len(token_ids))
            token_ids.append(ids[len(path) - 1])
        else:
            parents.append(rng.randrange(-1, len(token_ids)))
            token_ids.append(rng.choice(ids))
    return TokenTree(token_ids, parents), path
