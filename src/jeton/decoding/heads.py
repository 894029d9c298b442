"""Draft heads on the target's last hidden state, and the tree that is grown from them."""

import contextlib
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from jeton.decoding.contract import COUPLED, DraftContext, Step
from jeton.decoding.noise import gumbel
from jeton.decoding.weights import Weights, check_fits, fill
from jeton.errors import CheckpointError
from jeton.lm.pack import packed
from jeton.lm.tree import TokenTree


class Heads(nn.Module):
    """Small networks; the output of each is read by the target's own output matrix.

    Head i guesses the token i + 1 places behind the one that the target has just drawn. Its state
    is down(silu(up(x))); x is the target's last hidden state, for heads that see tokens followed by
    the embeddings of the drawn token and of the i tokens drafted after it, scaled alike.
    """

    vocabulary: Tensor

    def __init__(
        self, hidden_size: int, num_heads: int, width: int, num_ids: int, *, sees_tokens: bool
    ) -> None:
        super().__init__()
        self.hidden_size, self.num_heads, self.sees_tokens = hidden_size, num_heads, sees_tokens
        inputs = [hidden_size * (2 + i if sees_tokens else 1) for i in range(num_heads)]
        self.up = nn.ModuleList(nn.Linear(size, width) for size in inputs)
        self.down = nn.ModuleList(nn.Linear(width, hidden_size) for _ in range(num_heads))
        self.register_buffer("vocabulary", torch.zeros(num_ids, dtype=torch.int64))

    def state(self, index: int, hidden: Tensor, embeddings: Tensor | None) -> Tensor:
        """Return what the output matrix reads.

        Args:
            index: Of the head.
            hidden: Shape (..., hidden).
            embeddings: Of the drawn token and those after it, shape (..., (index + 1) * hidden);
                None for heads that see no tokens.
        """
        seen = functional.rms_norm(hidden, (self.hidden_size,))
        if embeddings is not None:
            parts = embeddings.unflatten(-1, (index + 1, self.hidden_size))
            parts = functional.rms_norm(parts, (self.hidden_size,)).flatten(-2)
            seen = torch.cat([seen, parts], dim=-1)
        state: Tensor = self.down[index](functional.silu(self.up[index](seen)))
        return state


def make_heads(weights: Weights, *, sees_tokens: bool) -> Heads:
    """Return the heads of a weights folder.

    Raises:
        CheckpointError: config.json and the tensors do not belong together.
    """
    ids = weights.tensors.get("vocabulary")
    if ids is None or ids.dim() != 1 or ids.is_floating_point() or not len(ids):
        raise CheckpointError(
            f"the {weights.kind} weights hold no list of token ids ('vocabulary')",
            hint="train them again with jeton draft train",
        )
    hidden, count, width = (weights.number(n) for n in ("hidden_size", "num_heads", "width"))
    if min(hidden, count, width) < 1 or not _in_range(ids, weights.number("num_embeddings")):
        raise CheckpointError(
            f"the {weights.kind} weights have sizes or token ids out of range",
            hint="train them again with jeton draft train",
        )
    heads = Heads(hidden, count, width, len(ids), sees_tokens=sees_tokens)
    fill(heads, weights)
    return heads


def _in_range(ids: Tensor, end: int) -> bool:
    return int(ids.min()) >= 0 and int(ids.max()) < end


class HeadState:
    """Heads bound to a target: follows the text and gives the guesses of each head."""

    def __init__(self, weights: Weights, model: Any, *, sees_tokens: bool) -> None:
        check_fits(weights, model)
        self.model = model
        self.heads = make_heads(weights, sees_tokens=sees_tokens)
        self.heads.to(device=model.device, dtype=model.dtype).eval()
        self._embed = model.get_input_embeddings()
        ids = self.heads.vocabulary
        unembed = model.get_output_embeddings()
        self._output = nn.Linear(unembed.in_features, len(ids), bias=unembed.bias is not None)
        with torch.no_grad():
            self._output.weight = nn.Parameter(unembed.weight[ids].clone())
            if unembed.bias is not None:
                self._output.bias = nn.Parameter(unembed.bias[ids].clone())
        # The modules are our own, so they stay packed as long as they live.
        self._open = contextlib.ExitStack()
        self._open.enter_context(packed(nn.ModuleList([self.heads, self._output])))
        self._hidden: Tensor | None = None

    def begin(self, context: DraftContext) -> None:
        """Start a text; nothing can be drafted before the first hidden state was seen."""
        self._sampling, self._is_coupled = context.sampling, context.draws == COUPLED
        self._vocab_size = context.vocab_size
        self._length = len(context.token_ids)
        self._last = context.token_ids[-1]
        self._hidden = None
        self._outside = self.heads.vocabulary >= context.vocab_size  # padded rows of the matrix

    def observe(self, step: Step) -> None:
        """Follow the target."""
        self._length += len(step.token_ids)
        self._last = step.token_ids[-1]
        if step.hidden is not None:
            self._hidden = step.hidden[step.accepted[-1]]

    @property
    def is_ready(self) -> bool:
        """Whether a hidden state was seen."""
        return self._hidden is not None

    @torch.inference_mode()
    def guesses(self, index: int, paths: Sequence[Sequence[int]], count: int) -> "Guesses":
        """Return the best guesses of a head after each path of drafted tokens.

        Args:
            index: Of the head; every path has as many tokens.
            paths: Drafted tokens; a head that sees no tokens gives all the same.
            count: Of guesses per path.
        """
        assert self._hidden is not None
        num_same = 1 if self.heads.sees_tokens else len(paths)
        paths = paths[: len(paths) // num_same]
        hidden = self._hidden.expand(len(paths), -1)
        embeddings = None
        if self.heads.sees_tokens:
            ids = torch.tensor([[self._last, *path] for path in paths], device=hidden.device)
            embeddings = self._embed(ids).flatten(1)
        logits = self._output(self.heads.state(index, hidden, embeddings)).float()
        logits.masked_fill_(self._outside, float("-inf"))
        if self._sampling.temperature > 0:
            logits = logits / self._sampling.temperature
            if self._is_coupled:  # the target will add the same noise
                position = self._length + index
                noise = gumbel(self._sampling.seed, position, self._vocab_size)
                ids = self.heads.vocabulary.clamp_max(self._vocab_size - 1)
                logits = logits + noise.to(logits)[ids]
        best = logits.topk(min(count, logits.shape[-1]), dim=-1)
        shares = (best.values - logits.logsumexp(-1, keepdim=True)).clamp_min(-50.0)
        ids = self.heads.vocabulary[best.indices]
        return list(zip(ids.tolist(), shares.tolist(), strict=True)) * num_same


Guesses = list[tuple[list[int], list[float]]]
"""Per path: token ids, best first, and their logprobs."""


def grow_by_levels(
    guesses: Callable[[int, list[list[int]], int], Guesses],
    budget: int,
    num_levels: int,
    *,
    beam: int,
    branching: int,
) -> TokenTree:
    """Return the most likely nodes of a tree whose levels are asked for one after the other.

    Args:
        guesses: Of a level, after some paths: best guesses with logprobs.
        budget: Most nodes.
        num_levels: Most nodes of a path.
        beam: Most nodes of a level that get children.
        branching: Most children of a node.
    """
    token_ids: list[int] = []
    parents: list[int] = []
    logq: list[float] = []
    values: list[float] = []
    paths: list[list[int]] = []
    level = [-1]
    for index in range(num_levels):
        found = guesses(index, [paths[node] if node >= 0 else [] for node in level], branching)
        first = len(token_ids)
        for node, (tokens, shares) in zip(level, found, strict=True):
            base = values[node] if node >= 0 else 0.0
            path = paths[node] if node >= 0 else []
            for token, share in zip(tokens, shares, strict=True):
                token_ids.append(token)
                parents.append(node)
                logq.append(share)
                values.append(base + share)
                paths.append([*path, token])
        # Only what is among the best so far is worth children.
        ranked = sorted(range(len(values)), key=lambda node: (-values[node], node))[:budget]
        level = sorted([node for node in ranked if node >= first][:beam])
        if not level:
            break
    return TokenTree(token_ids, parents, logq).prune(budget)
