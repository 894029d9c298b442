"""`model.generate(..., custom_generate=speculative(...))` on a plain transformers model."""

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from jeton.bytelm.complete import draw_cover
from jeton.core.formats.source import ModelKind, StartRule, TokenKind
from jeton.core.vocabulary import Vocabulary
from jeton.decoding.batch import BatchLoop
from jeton.decoding.contract import Drafter, Sampling, Verifier
from jeton.decoding.create import create_drafter, create_verifier, default_verifier
from jeton.decoding.engine import DecodingLoop
from jeton.errors import ConfigError, UnsupportedModelError
from jeton.lm.cost import CostTable
from jeton.lm.load import LanguageModel
from jeton.lm.runner import Runner, num_embeddings_of


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
    each node with the context of that node, stopping criteria after each token. A batch, padded
    on the left, shares each forward; every text has its own drafts and its own end, and processors
    do not see its padding.

    Args:
        drafter: A name, several joined by "+", an instance, or None.
        verifier: A name, an instance, or None: greedy, or seed-exact with `do_sample`.
        num_draft_tokens: Most nodes per draft.
        draft_model: With the same ids, for drafters that need one.
        cost: Cuts drafts to what is worth verifying.
        seed: Of the sampling, that of the first text, one more for each further one; None takes
            one from torch's global generator.

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
        _check(generation_config)
        prompts = _unpadded(input_ids, model_kwargs.get("attention_mask"))
        if len(prompts) > 1 and not (drafter is None or isinstance(drafter, str)):
            raise ConfigError(
                f"one drafter cannot serve {len(prompts)} texts", hint="give its name"
            )
        is_warm = bool(generation_config.do_sample)
        noise = int(torch.randint(2**62, ())) if seed is None and is_warm else seed or 0
        lm, runner = _with_ids_only(model), Runner(model)
        helper = None if draft_model is None else _with_ids_only(draft_model)
        loops = []
        for row in range(len(prompts)):
            # The processors of `generate` already hold the temperature and the filters.
            sampling = Sampling(temperature=1.0 if is_warm else 0.0, seed=noise + row)
            chosen = create_verifier(verifier, sampling) if isinstance(verifier, str) else verifier
            loops.append(
                DecodingLoop(
                    lm,
                    drafter=create_drafter(drafter) if isinstance(drafter, str) else drafter,
                    verifier=chosen or default_verifier(sampling),
                    sampling=sampling,
                    num_draft_tokens=num_draft_tokens,
                    draft_model=helper,
                    runner=runner,
                    processors=list(logits_processor or ()),
                    cost=cost,
                )
            )
        room = generation_config.max_length - input_ids.shape[1]
        rows = _collect(BatchLoop(loops), prompts, room, stopping_criteria, input_ids)
        return _side_by_side(rows, generation_config)

    return run


def exact_prompt(
    vocabulary: Vocabulary, *, measure: str = "canonical", seed: int = 0
) -> Callable[..., Tensor]:
    """Return a loop for `generate(custom_generate=...)` whose prompt may end inside a token.

    The last tokens are taken back and a cover of their bytes is drawn; what follows is ordinary
    decoding. Special tokens of the prompt stay where they are.

    Args:
        vocabulary: Of the model.
        measure: Which tokenizations count.
        seed: Of the draw and of the sampling.
    """

    def run(model: PreTrainedModel, input_ids: Tensor, **options: Any) -> Tensor:
        config = options.get("generation_config")
        if input_ids.shape[0] != 1:
            raise UnsupportedModelError(
                f"a prompt that ends in a token comes alone, got {input_ids.shape[0]} rows",
                hint="call generate for each prompt",
            )
        ids = input_ids[0].tolist()
        special = [i for i, t in enumerate(ids) if vocabulary.kinds[t] == TokenKind.SPECIAL]
        closed = ids[: special[-1] + 1] if special else []
        is_warm = bool(getattr(config, "do_sample", False))
        cover = draw_cover(
            LanguageModel(model, None, vocabulary, vocabulary.name),
            vocabulary.decode(ids[len(closed) :]),
            temperature=float(getattr(config, "temperature", None) or 1.0) if is_warm else 0.0,
            seed=seed,
            measure=measure,
            start_ids=closed,
        )
        covered = torch.tensor([cover.token_ids], device=input_ids.device)
        options.pop("attention_mask", None)
        return speculative(None, seed=seed)(model, covered, **options)

    return run


def _collect(
    batch: BatchLoop,
    prompts: list[list[int]],
    room: int,
    stopping_criteria: Any,
    input_ids: Tensor,
) -> list[Tensor]:
    """Return prompt and answer of each text; the criteria see every text token by token."""
    rows = list(input_ids.split(1))
    over = [False] * len(rows)
    for index, new in batch.run(prompts, room):
        for token_id in new if not over[index] else ():
            rows[index] = torch.cat([rows[index], input_ids.new_tensor([[token_id]])], dim=1)
            if stopping_criteria is not None and bool(stopping_criteria(rows[index], None).all()):
                over[index] = True
                batch.end(index)
                break
    return rows


def _side_by_side(rows: list[Tensor], config: Any) -> Tensor:
    """Return texts as one tensor, the shorter ones padded behind, as `generate` does."""
    longest = max(row.shape[1] for row in rows)
    padding = getattr(config, "pad_token_id", None)
    padding = int(getattr(config, "_pad_token_tensor", 0)) if padding is None else padding
    return torch.cat(
        [torch.nn.functional.pad(row, (0, longest - row.shape[1]), value=padding) for row in rows]
    )


def _unpadded(input_ids: Tensor, attention_mask: Tensor | None) -> list[list[int]]:
    """Return the prompts without the padding before them."""
    if attention_mask is None:
        return [row.tolist() for row in input_ids]
    starts = (attention_mask != 0).long().argmax(dim=1).tolist()
    for start, mask in zip(starts, attention_mask, strict=True):
        if not bool(mask[start:].all()):
            raise UnsupportedModelError(
                "a prompt is padded behind or in its midst",
                hint="pad on the left: tokenizer.padding_side = 'left'",
            )
    return [row[start:].tolist() for start, row in zip(starts, input_ids, strict=True)]


def _check(config: Any) -> None:
    """Refuse what the loop would have to ignore."""
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
