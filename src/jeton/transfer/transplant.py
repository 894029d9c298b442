"""Build the destination model: the source's body with the destination's rows."""

import copy
from typing import Any

import torch

from jeton.core.vocabulary import Vocabulary
from jeton.transfer.contract import EmbeddingInitializer, InitInput, InitResult
from jeton.transfer.embeddings import is_tied, read_matrices


def transplant(
    model: Any,
    source: Vocabulary,
    destination: Vocabulary,
    initializer: EmbeddingInitializer,
    *,
    texts: tuple[str, ...] = (),
    seed: int = 0,
) -> tuple[Any, InitResult]:
    """Return a copy of a causal LM that speaks the destination vocabulary, and what was done.

    The source model is not changed. Padded rows of the source are dropped: the copy has exactly
    `destination.vocab_size` rows. Ids of bos, eos and pad are mapped by their content.

    Raises:
        TokenizerMismatchError: the source vocabulary has more ids than the model has rows.
        UnsupportedModelError: quantised embeddings, or none that can be replaced.
    """
    embedding, head = read_matrices(model, source)
    tied = is_tied(embedding, head)
    bias = getattr(head, "bias", None) if head is not None else None
    result = initializer.initialize(
        InitInput(
            source=source,
            destination=destination,
            input_embeddings=embedding.weight.detach(),
            output_embeddings=None if head is None or tied else head.weight.detach(),
            output_bias=None if bias is None else bias.detach(),
            texts=texts,
            seed=seed,
            model=model,
        )
    )
    moved = with_rows(model, result)
    _map_special_ids(moved, source, destination)
    return moved, result


def with_rows(model: Any, result: InitResult) -> Any:
    """Return a copy of a causal LM whose embedding and output rows are these."""
    moved = copy.deepcopy(model)
    # resize_token_embeddings knows each family's attributes (ties, biases, config fields).
    moved.resize_token_embeddings(len(result.input_embeddings), mean_resizing=False)
    with torch.no_grad():
        new_embedding, new_head = moved.get_input_embeddings(), moved.get_output_embeddings()
        new_embedding.weight.copy_(result.input_embeddings)
        if result.output_embeddings is not None and new_head is not None:
            new_head.weight.copy_(result.output_embeddings)
        if result.output_bias is not None and new_head is not None:
            new_head.bias.copy_(result.output_bias)
    new_embedding.padding_idx = None
    return moved


def _map_special_ids(model: Any, source: Vocabulary, destination: Vocabulary) -> None:
    """Point bos, eos and pad of both configurations at the destination's ids."""
    names = {token_id: name for name, token_id in source.special_tokens.items()}
    names.update({token_id: name for name, token_id in source.added_tokens.items()})
    known = {**destination.added_tokens, **destination.special_tokens}
    ends = {source.eos_token_id: destination.eos_token_id}
    begins = {source.bos_token_id: destination.bos_token_id}

    def mapped(value: Any, roles: dict[int | None, int | None]) -> Any:
        if isinstance(value, list):
            return [m for m in (mapped(v, roles) for v in value) if m is not None]
        if not isinstance(value, int):
            return None
        found = known.get(names.get(value, ""))
        return roles.get(value) if found is None else found

    for config in (model.config, getattr(model, "generation_config", None)):
        for field in ("bos_token_id", "eos_token_id", "pad_token_id", "decoder_start_token_id"):
            # One token may have both roles: a field takes its own where the destination has two.
            roles = {**ends, **begins} if field == "bos_token_id" else {**begins, **ends}
            if getattr(config, field, None) is not None:
                setattr(config, field, mapped(getattr(config, field), roles))
