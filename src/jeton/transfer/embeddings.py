"""The embedding matrices of a causal LM, and what the model does with their rows."""

from typing import Any

import torch
from torch import Tensor

from jeton.core.vocabulary import Vocabulary
from jeton.errors import TokenizerMismatchError, UnsupportedModelError


def read_matrices(model: Any, vocabulary: Vocabulary) -> tuple[Any, Any | None]:
    """Return the input embedding and the output layer, refusing what cannot be moved.

    Raises:
        UnsupportedModelError: quantised embeddings, or none that can be replaced.
        TokenizerMismatchError: the vocabulary has more ids than the model has rows.
    """
    embedding, head = model.get_input_embeddings(), model.get_output_embeddings()
    name = type(model).__name__
    if embedding is None or not isinstance(getattr(embedding, "weight", None), Tensor):
        raise UnsupportedModelError(f"{name} has no input embedding that can be replaced")
    for module in (embedding, head):
        if module is not None and not module.weight.is_floating_point():
            raise UnsupportedModelError(
                f"{name} has quantised embeddings ({module.weight.dtype})",
                hint="load the model without quantisation, move it, then quantise again",
            )
    if vocabulary.vocab_size > embedding.weight.shape[0]:
        raise TokenizerMismatchError(
            f"the tokenizer has {vocabulary.vocab_size} ids, the model only "
            f"{embedding.weight.shape[0]} rows",
            hint="give the tokenizer that belongs to the model",
        )
    return embedding, head


def is_tied(embedding: Any, head: Any | None) -> bool:
    """Whether the output rows are the input rows."""
    return head is None or head.weight is embedding.weight


def rows_of(model: Any, vocabulary: Vocabulary) -> Tensor:
    """Return the rows of all ids in float32, the output row beside the input row where untied.

    Returns:
        Shape (vocab_size, columns); columns is the hidden size, or twice that.
    Raises:
        UnsupportedModelError, TokenizerMismatchError: see `read_matrices`.
    """
    embedding, head = read_matrices(model, vocabulary)
    size = vocabulary.vocab_size
    output = None if head is None or is_tied(embedding, head) else head.weight.detach()[:size]
    return side_by_side(embedding.weight.detach()[:size], output)


def side_by_side(input_rows: Tensor, output_rows: Tensor | None) -> Tensor:
    """Return input rows, and the output rows beside them where the model is untied, in float32."""
    both = [input_rows] if output_rows is None else [input_rows, output_rows]
    return torch.cat([rows.float() for rows in both], 1)


def input_scale(model: Any) -> float:
    """Return by what the model's own embedding layer multiplies its rows (Gemma: sqrt(hidden)).

    Raises:
        UnsupportedModelError: it does something else to them.
    """
    embedding = model.get_input_embeddings()
    rows = embedding.weight.detach()[:8].float()
    with torch.inference_mode():
        given = embedding(torch.arange(len(rows), device=rows.device)).float()
    scale = float((given * rows).sum() / (rows * rows).sum())
    if not torch.allclose(given, rows * scale, rtol=1e-2, atol=1e-4):
        raise UnsupportedModelError(
            f"{type(model).__name__} does more to its embeddings than to scale them",
            hint="use an initializer that needs no training",
        )
    return scale


def body_of(model: Any) -> Any:
    """Return what turns `inputs_embeds` into the hidden states before the output layer.

    Raises:
        UnsupportedModelError: the model names none.
    """
    body = model.get_decoder() if hasattr(model, "get_decoder") else None
    if body is None:
        raise UnsupportedModelError(f"{type(model).__name__} names no decoder")
    return body
