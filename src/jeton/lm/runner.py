"""Run any causal LM step by step: prefill, verify a token tree in one forward, commit a path."""

import copy
import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from jeton.errors import ConfigError, TokenizerMismatchError, UnsupportedModelError
from jeton.lm.cache import SlotLayer, StockCache, make_cache
from jeton.lm.cache_contract import CacheFactory, DecoderCache
from jeton.lm.lean_check import find_lean
from jeton.lm.tree import TokenTree

_UNLIMITED = 1 << 40  # recurrent models name no longest text
_DRY_RUN_ERRORS = (TypeError, ValueError, RuntimeError, IndexError, KeyError, AttributeError)


@dataclass(frozen=True)
class Verified:
    """What a forward over a tree gave.

    Attributes:
        tree: The nodes.
        logits: Of the token after each node, shape (nodes, num_embeddings), float32.
        hidden: The last hidden state of each node, shape (nodes, hidden), or None.
    """

    tree: TokenTree
    logits: Tensor
    hidden: Tensor | None


class Runner:
    """A model, the tokens it has read, and its cache.

    Models of plain attention (full or sliding) take trees; recurrent, hybrid and other models
    take chains. The logits are those of the plain forward up to the rounding of the dtype. Where
    rotary frequencies depend on the text's length (dynamic NTK, LongRoPE) tokens keep the
    frequencies they were read with, so that logits differ once the text outgrows the first table.

    Example:
        >>> from jeton.testing.models import tiny_model
        >>> runner = Runner(tiny_model("llama"))
        >>> next_id = int(runner.prefill([1, 2, 3]).argmax())
        >>> found = runner.verify(TokenTree.from_paths([[next_id, 7], [next_id, 8]]))
        >>> found.logits.shape
        torch.Size([3, 64])
        >>> runner.commit([0, 2])
        >>> runner.length, runner.token_ids[-1]
        (5, 8)
    """

    def __init__(
        self,
        model: PreTrainedModel,
        *,
        max_length: int | None = None,
        cache: CacheFactory | None = None,
        lean: bool = True,
        prefill_chunk: int = 512,
    ) -> None:
        """Make an empty runner.

        Args:
            model: In evaluation mode.
            max_length: Upper bound on the tokens; the model's own when None.
            cache: Makes the cache, and decides which tokens are attended; None takes `make_cache`.
            lean: Whether `jeton.lm.lean` may run the tokens where a dry run proves it right.
            prefill_chunk: Tokens per forward of `prefill`, 1 or more.
        Raises:
            ConfigError: the model is in training mode, or it has fewer positions.
            UnsupportedModelError: it is no decoder with a cache that can be passed in.
        """
        if model.training:
            raise ConfigError("the model is in training mode", hint="call model.eval() first")
        config = model.config.get_text_config(decoder=True)
        accepted = inspect.signature(model.forward).parameters
        self._cache_name = "past_key_values" if "past_key_values" in accepted else "cache_params"
        if self._cache_name not in accepted or getattr(config, "is_encoder_decoder", False):
            raise UnsupportedModelError(
                f"{type(model).__name__} is no decoder whose cache can be passed in",
                hint="use a causal language model of transformers",
            )
        self.model, self.prefill_chunk = model, prefill_chunk
        self.device = model.device
        self.num_embeddings = num_embeddings_of(model)
        self.max_length = _checked_max_length(config, max_length)
        self._takes_positions = "position_ids" in accepted
        self._takes_keep = "logits_to_keep" in accepted
        self._cache: DecoderCache = (cache or make_cache)(config, self.max_length)
        self._attention = self._cache.attention or str(getattr(config, "_attn_implementation", ""))
        self._masks_are_ours = self._attention in ("sdpa", "eager")
        self._additive = model.dtype if self._attention == "eager" else None
        self._continues: bool | None = None if isinstance(self._cache, StockCache) else True
        self._trees_work: bool | None = None
        if not (self._cache.can_take_trees and self._takes_positions and self._masks_are_ours):
            self._trees_work = False
        self._positions = torch.empty(0, dtype=torch.int64)
        self._token_ids: list[int] = []
        self._pending: TokenTree | None = None
        found = find_lean(model, self._cache) if lean else (None, "the caller chose so")
        self._lean, self.forward_reason = found

    @property
    def forward_kind(self) -> str:
        """What runs the tokens: "lean" or "modules"; `forward_reason` says why."""
        return "modules" if self._lean is None else "lean"

    def is_exact(self, tree: TokenTree) -> bool:
        """Whether it is known that the next tree's logits are the bits of single steps."""
        return self._lean is not None and self._lean.is_exact(self.length, tree)

    @property
    def length(self) -> int:
        """Tokens in the cache, provisional ones not counted."""
        return len(self._token_ids)

    @property
    def token_ids(self) -> list[int]:
        """A copy of them."""
        return list(self._token_ids)

    @property
    def room(self) -> int | None:
        """Most tokens in a path of the next tree to verify; None for any number."""
        return self._cache.room

    @property
    def supports_trees(self) -> bool:
        """Whether `verify` takes more than chains; found by a dry run when first asked."""
        self._trees_work = self._dry_run() if self._trees_work is None else self._trees_work
        return self._trees_work

    def prefill(self, input_ids: Sequence[int] | Tensor, *, chunk: int | None = None) -> Tensor:
        """Append tokens to the cache; provisional nodes are dropped first.

        Args:
            input_ids: Shape (seq,), ids < num_embeddings, at least one.
            chunk: Tokens per forward; that of the runner when None.
        Returns:
            The logits after the last token, shape (num_embeddings,), float32.
        Raises:
            ConfigError: no tokens, or more than `max_length` in all.
            TokenizerMismatchError: an id is out of range.
        """
        ids = input_ids.flatten().tolist() if isinstance(input_ids, Tensor) else list(input_ids)
        chunk = self.prefill_chunk if chunk is None else chunk
        if not ids or chunk < 1:
            raise ConfigError(f"prefill needs tokens and a chunk >= 1; got {len(ids)} and {chunk}")
        self._check(ids, len(ids))
        self._drop_pending()
        if not self._continues and len(ids) > 1 and not self._can_continue():
            chunk = 1 if self.length else len(ids)
        with torch.inference_mode():
            for start in range(0, len(ids), chunk):
                part = ids[start : start + chunk]
                logits, _ = self._forward(part, None, None, keep=1, hidden=False)
                self._token_ids.extend(part)
                self._cache.settle(self.length)
        return logits[0]

    def verify(self, tree: TokenTree, *, hidden: bool = False) -> Verified:
        """Run one forward over the nodes of a tree; they stay provisional until `commit`.

        Provisional nodes of an earlier call are dropped first.

        Args:
            tree: Continuations of the tokens in the cache.
            hidden: Whether to return the last hidden states too.
        Raises:
            UnsupportedModelError: the tree is no chain and the model takes only chains.
            ConfigError: a node lies beyond `max_length` or the cache's room, or the tree is empty.
            TokenizerMismatchError: an id is out of range.
        """
        is_chain = tree.is_chain
        if not len(tree):
            raise ConfigError("the tree to verify is empty")
        if not is_chain and not self.supports_trees:
            raise UnsupportedModelError(
                f"{type(self.model).__name__} with {self._attention or 'its own'} attention takes "
                "only chains, no token trees",
                hint="draft a single path, or load the model with attn_implementation='sdpa'",
            )
        longest = len(tree) if is_chain else max(tree.depths) + 1
        if self.room is not None and longest > self.room:
            raise ConfigError(f"a path of {longest} tokens; the cache takes {self.room} now")
        self._check(tree.token_ids, longest)
        self._drop_pending()
        self._cache.begin(len(tree))
        depths, mask = None if is_chain else tree.depths, None
        with torch.inference_mode():
            needs_mask = not is_chain or (self._masks_are_ours and self.length)
            if needs_mask and not self._uses_lean():
                mask = self._cache.mask(tree, additive=self._additive, device=self.device)
            if len(tree) > 1 and not self._continues and not self._can_continue():
                logits, states = self._step_by_step(tree.token_ids, hidden=hidden)
            else:
                logits, states = self._forward(
                    *(tree.token_ids, depths, mask),
                    keep=len(tree),
                    hidden=hidden,
                    tree=None if is_chain else tree,
                )
        self._pending = tree
        return Verified(tree, logits, states)

    def commit(self, path: Sequence[int]) -> None:
        """Keep the nodes of one path from a root downwards, drop the others.

        Args:
            path: Node indices of the tree verified last; [] drops all.
        Raises:
            ConfigError: nothing was verified, or the nodes are no path.
        """
        tree = self._pending
        if tree is None:
            if path:
                raise ConfigError("there is nothing to commit", hint="call verify first")
            return
        if not tree.is_path(path):
            words = f"nodes {list(path)} are no path from a root of the verified tree"
            raise ConfigError(words, hint="use tree.path_to(node)")
        self._pending = None
        kept = [tree.token_ids[node] for node in path]
        with torch.inference_mode():
            complete = self._cache.keep(self.length, [self.length + node for node in path])
            if not complete and (self._continues or len(kept) == 1):
                self._forward(kept, None, None, keep=1, hidden=False)
            elif not complete:
                self._step_by_step(kept, hidden=False)
            self._token_ids.extend(kept)
            self._cache.settle(self.length)

    def truncate(self, length: int) -> None:
        """Forget all tokens behind the first `length`; recurrent models read these again.

        Raises:
            ConfigError: length is not in 0 .. self.length.
        """
        if not 0 <= length <= self.length:
            raise ConfigError(f"cannot truncate {self.length} tokens to {length}")
        self._drop_pending()
        if length == self.length:
            return
        kept = self._token_ids[:length]
        if self._cache.can_truncate:
            self._cache.keep(length, [])
            self._token_ids = kept
        else:
            self.reset()
            if kept:
                self.prefill(kept)

    def reset(self) -> None:
        """Forget all tokens; allocated memory stays."""
        self._cache.reset()
        self._token_ids, self._pending = [], None

    def fork(self) -> "Runner":
        """Return a runner on a copy of the committed cache; the model is shared."""
        other = copy.copy(self)
        with torch.inference_mode():
            other._cache = self._cache.fork(self.length)
        other._token_ids, other._pending = self.token_ids, None
        return other

    def _drop_pending(self) -> None:
        if self._pending is not None:
            self.commit([])

    def _check(self, ids: list[int], num_new: int) -> None:
        """Refuse ids out of range and texts that are too long, before anything changes."""
        if self.length + num_new > self.max_length:
            raise ConfigError(
                f"{self.length} + {num_new} tokens exceed the limit of {self.max_length}",
                hint="shorten the text, or raise max_length if the model allows it",
            )
        if min(ids) < 0 or max(ids) >= self.num_embeddings:
            raise TokenizerMismatchError(
                f"token ids reach from {min(ids)} to {max(ids)}; the model has "
                f"{self.num_embeddings} embeddings",
                hint="encode with the tokenizer of this model",
            )

    def _position_ids(self, num_new: int, depths: list[int] | None) -> Tensor:
        start = self.length
        if depths is not None:
            return torch.tensor([depths], device=self.device) + start
        if start + num_new > self._positions.shape[0]:
            self._positions = torch.arange(max(2 * (start + num_new), 256), device=self.device)
        return self._positions[None, start : start + num_new]

    def _uses_lean(self) -> bool:
        """Whether the lean forward runs; from the first hook on a module it does not."""
        if self._lean is not None and self._lean.has_hooks:
            for layer in self._cache.native.layers:
                if isinstance(layer, SlotLayer) and layer.is_initialized:
                    layer.keys.copy_(self._lean.in_model_order(layer.keys))
            self._lean, self.forward_reason = None, "somebody listens to the modules"
        return self._lean is not None

    def _forward(
        self,
        ids: list[int],
        depths: list[int] | None,
        mask: Any,
        *,
        keep: int,
        hidden: bool,
        tree: TokenTree | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """Forward new tokens into the cache; logits and hidden states of the last `keep`."""
        if self._uses_lean() and self._lean is not None:
            layers: Any = self._cache.native.layers
            found, last = self._lean.run(layers, self.length, ids, tree, keep)
            return found, last.to(self.model.dtype) if hidden else None
        options: dict[str, Any] = {self._cache_name: self._cache.native, "use_cache": True}
        if self._takes_positions:
            options["position_ids"] = self._position_ids(len(ids), depths)
        if mask is not None:
            options["attention_mask"] = mask
        if self._takes_keep:
            options["logits_to_keep"] = keep
        if hidden:
            options["output_hidden_states"] = True
        output = self.model(input_ids=torch.tensor([ids], device=self.device), **options)
        states = output.hidden_states[-1][0, -keep:] if hidden else None
        return output.logits[0, -keep:].float(), states  # (keep, num_embeddings)

    def _step_by_step(self, ids: list[int], *, hidden: bool) -> tuple[Tensor, Tensor | None]:
        """Forward tokens one at a time, for models whose state a longer forward would ignore."""
        steps = []
        for offset, token_id in enumerate(ids):
            depths = [offset] if self._takes_positions else None
            steps.append(self._forward([token_id], depths, None, keep=1, hidden=hidden))
        states = [s for _, s in steps if s is not None]
        return torch.cat([logits for logits, _ in steps]), torch.cat(states) if hidden else None

    def _can_continue(self) -> bool:
        """Whether a forward of several tokens goes on from the state; Mamba's starts afresh."""
        if self._continues is None:
            ids, split = [i * i % self.num_embeddings for i in range(1, 13)], 8
            trial = self.fork()
            trial._continues = True
            results = []
            for chunk in (len(ids) - split, 1):
                trial.reset()
                trial.prefill(ids[:split])
                results.append(trial.prefill(ids[split:], chunk=chunk))
            with torch.inference_mode():
                right = self.model(input_ids=torch.tensor([ids], device=self.device)).logits[0, -1]
            at_once, stepwise = (float((found - right.float()).abs().max()) for found in results)
            # No worse than the rounding that single steps show.
            self._continues = at_once <= max(1e-4 * float(right.abs().max()), 4 * stepwise)
        return self._continues

    def _dry_run(self) -> bool:
        """Whether two siblings behind a prefix get the logits of their own paths."""
        a, b, c, d = (i % self.num_embeddings for i in (1, 2, 3, 5))
        trial = self.fork()
        trial._trees_work = True
        trial.reset()
        try:
            trial.prefill([a, b])
            tree = trial.verify(TokenTree([c, d], [-1, -1])).logits
        except _DRY_RUN_ERRORS:
            return False
        with torch.inference_mode():
            paths = torch.tensor([[a, b, c], [a, b, d]], device=self.device)
            right = self.model(input_ids=paths).logits[:, -1].float()
            ignored = torch.tensor([[a, b, c, d]], device=self.device)
            wrong = self.model(input_ids=ignored).logits[0, -1].float()
        return _is_same(tree[0], right[0], wrong) and _is_same(tree[1], right[1], wrong)


def _is_same(found: Tensor, right: Tensor, wrong: Tensor) -> bool:
    """Whether logits are right up to rounding: at 1e-4, or far nearer than the feared mistake."""
    error = float((found - right).abs().max())
    feared = float((wrong - right).abs().max())
    return error <= 1e-4 * max(float(right.abs().max()), 1e-6) or error <= 0.2 * feared


def num_embeddings_of(model: PreTrainedModel) -> int:
    """Return the number of rows of the model's input embedding."""
    weight: Any = model.get_input_embeddings().weight
    return int(weight.shape[0])


def _checked_max_length(config: Any, asked: int | None) -> int:
    """Return the most tokens that a runner may hold."""
    own = int(getattr(config, "max_position_embeddings", None) or _UNLIMITED)
    is_learned = getattr(config, "rope_parameters", None) is None
    if asked is not None and (asked < 1 or (asked > own and is_learned)):
        raise ConfigError(f"max_length must be 1 to {own} for this model, got {asked}")
    return own if asked is None else asked
