"""The sampling's filters over the rows of a verified tree, each row with its own context."""

import torch
from torch import Tensor

from jeton.decoding.contract import Sampling
from jeton.lm import sampling as plain
from jeton.lm.tree import TokenTree


@torch.inference_mode()
def filter_rows(logits: Tensor, tree: TokenTree, context: list[int], sampling: Sampling) -> Tensor:
    """Return logits whose softmax is the law of the next token at each node.

    The order is that of transformers: repetition penalty, temperature, top-k, top-p, min-p.

    Args:
        logits: Shape (nodes, vocab), padded rows already dropped.
        tree: Node 0 is the last token of the context.
        context: Tokens so far.
        sampling: What to apply.
    """
    rows = logits
    if sampling.repetition_penalty != 1.0:
        penalised = []
        for node in range(len(tree)):
            path = [tree.token_ids[i] for i in tree.path_to(node)[1:]]
            seen = torch.tensor([*context, *path], device=rows.device)
            penalised.append(
                plain.repetition_penalty(rows[node], seen, sampling.repetition_penalty)
            )
        rows = torch.stack(penalised)
    if sampling.temperature == 0:
        return rows
    rows = plain.apply_temperature(rows, sampling.temperature)
    if sampling.top_k:
        rows = plain.top_k(rows, min(sampling.top_k, rows.shape[-1]))
    if sampling.top_p < 1:
        rows = plain.top_p(rows, sampling.top_p)
    if sampling.min_p > 0:
        rows = plain.min_p(rows, sampling.min_p)
    return rows
