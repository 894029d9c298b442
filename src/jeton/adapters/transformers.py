"""`model.generate(..., custom_generate=speculative(...))` on a plain transformers model."""

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from jeton.core.formats.source import ModelKind, StartRule, TokenKind
from jeton.core.vocabulary import Vocabulary
from jeton.decoding.contract import Drafter, Sampling, Verifier
from jeton.decoding.create import create_drafter, create_verifier, default_verifier
from jeton.decoding.engine import DecodingLoop
from jeton.errors import ConfigError, UnsupportedModelError
from jeton.lm.cost import CostTable
from jeton.lm.load import LanguageModel
from jeton.lm.runner import num_embeddings_of


def speculative(
    drafter: str | Drafter | None = "prompt_lookup",
    *,
    verifier: str | Verifier | None = None,
    num_draft_tokens: int = 8,
    draft_model: PreTrainedModel | None = None,
    cost: CostTable | None = None,
    seed: int | None = None,
) -> Callable[..., Tensor]:
    """Return a decoding loop for `generate(custom_generate=...)`.

    Everything that `generate` makes of its arguments is kept: logits processors are applied at
    each node with the context of that node, stopping criteria after each token.

    Args:
        drafter: A name, several joined by "+", an instance, or None.
        verifier: A name, an instance, or None: greedy, or seed-exact with `do_sample`.
        num_draft_tokens: Most nodes per draft.
        draft_model: With the same ids, for drafters that need one.
        cost: Cuts drafts to what is worth verifying.
        seed: Of the sampling; None takes one from torch's global generator.

    Example:
        >>> import torch
        >>> from jeton.testing.models import tiny_model
        >>> model, ids = tiny_model("llama"), torch.tensor([[1, 2, 3]])
        >>> options = {"max_new_tokens": 8, "do_sample": False, "pad_token_id": 0}
        >>> plain = model.generate(ids, **options)
        >>> fast = model.generate(ids, custom_generate=speculative("lookahead"), **options)
        >>> bool((plain == fast).all())
        True
    """

    def run(
        model: PreTrainedModel,
        input_ids: Tensor,
        logits_processor: Any = None,
        stopping_criteria: Any = None,
        generation_config: Any = None,
        **model_kwargs: Any,
    ) -> Tensor:
        _check(input_ids, generation_config, model_kwargs.get("attention_mask"))
        is_warm = bool(generation_config.do_sample)
        noise = int(torch.randint(2**62, ())) if seed is None and is_warm else seed or 0
        # The processors of `generate` already hold the temperature and the filters.
        sampling = Sampling(temperature=1.0 if is_warm else 0.0, seed=noise)
        chosen = create_verifier(verifier, sampling) if isinstance(verifier, str) else verifier
        loop = DecodingLoop(
            _with_ids_only(model),
            drafter=create_drafter(drafter) if isinstance(drafter, str) else drafter,
            verifier=chosen or default_verifier(sampling),
            sampling=sampling,
            num_draft_tokens=num_draft_tokens,
            draft_model=None if draft_model is None else _with_ids_only(draft_model),
            processors=list(logits_processor or ()),
            cost=cost,
        )
        prompt = input_ids[0].tolist()
        return _collect(
            loop, prompt, generation_config.max_length - len(prompt), stopping_criteria, input_ids
        )

    return run


def _collect(
    loop: DecodingLoop, prompt: list[int], room: int, stopping_criteria: Any, input_ids: Tensor
) -> Tensor:
    """Return prompt and answer; the criteria see the text token by token, as in `generate`."""
    ids = input_ids
    for new in loop.run(prompt, room):
        for token_id in new:
            ids = torch.cat([ids, ids.new_tensor([[token_id]])], dim=1)
            if stopping_criteria is not None and bool(stopping_criteria(ids, None).all()):
                return ids
    return ids


def _check(input_ids: Tensor, config: Any, attention_mask: Tensor | None) -> None:
    """Refuse what the loop would have to ignore."""
    if input_ids.shape[0] != 1:
        raise UnsupportedModelError(
            f"speculative decoding takes one text at a time, got a batch of {input_ids.shape[0]}",
            hint="call generate for each text",
        )
    if attention_mask is not None and not bool(attention_mask.all()):
        raise UnsupportedModelError(
            "the prompt is padded", hint="give the prompt without padding tokens"
        )
    for name in ("num_beams", "num_return_sequences"):
        if (getattr(config, name, None) or 1) != 1:
            raise ConfigError(f"{name} must be 1, got {getattr(config, name)}")
    if getattr(config, "return_dict_in_generate", None):
        raise ConfigError(
            "return_dict_in_generate is not supported", hint="leave it out; token ids are returned"
        )


def _with_ids_only(model: PreTrainedModel) -> LanguageModel:
    """Return a language model whose tokens are known by id alone."""
    size = num_embeddings_of(model)
    vocabulary = Vocabulary(
        name=type(model).__name__,
        tokens=[b""] * size,
        kinds=np.full(size, TokenKind.TEXT, dtype=np.uint8),
        special_tokens={},
        added_tokens={},
        model_kind=ModelKind.WORD_LEVEL,
        start_rule=StartRule.NONE,
        normalizer=None,
    )
    return LanguageModel(model, None, vocabulary, type(model).__name__)


def time_generate(
    lm: LanguageModel,
    prompt: Sequence[int],
    num_tokens: int,
    *,
    clock: Callable[[], float] = time.perf_counter,
    **options: Any,
) -> float:
    """Return the bytes per second of transformers' own greedy `generate`.

    Args:
        lm: The model.
        prompt: Token ids.
        num_tokens: New tokens, at least 2; the time of the first is subtracted.
        clock: Seconds.
        options: Of `generate`.
    """
    generate: Any = lm.model.generate
    ids = torch.tensor([list(prompt)], device=lm.device)
    seconds, new = [], []
    for count in (1, num_tokens):
        start = clock()
        output = generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=count,
            min_new_tokens=count,
            do_sample=False,
            eos_token_id=None,
            pad_token_id=0,
            **options,
        )
        seconds.append(clock() - start)
        new = output[0, len(prompt) :].tolist()
    known = [token_id for token_id in new[1:] if token_id < lm.vocabulary.vocab_size]
    return len(lm.vocabulary.bytes_of(known)) / max(seconds[1] - seconds[0], 1e-9)
