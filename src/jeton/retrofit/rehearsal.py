"""General text without a file: let the source model write it, before it is changed.

Source: pseudo-rehearsal (Robins 1995, https://doi.org/10.1080/09540099550039318): samples of the
old model stand in for its training data, so that learning something new forgets less.
Differs from the source: each row begins with a random token, so that the samples cover more than
what the model likes to begin documents with.
"""

import torch
from torch import Tensor
from transformers import DynamicCache

from jeton.core.vocabulary import TokenKind
from jeton.lm.load import LanguageModel


@torch.inference_mode()
def rehearse(lm: LanguageModel, *, num_tokens: int, seed: int, batch: int = 256) -> list[bytes]:
    """Return texts sampled from the model at temperature 1.

    Args:
        lm: The source model.
        num_tokens: About how many tokens to sample in total.
        seed: Of the samples.
        batch: Rows sampled at once.
    Returns:
        One text per row; special tokens end a row's text.
    """
    generator = torch.Generator().manual_seed(seed)
    kinds = torch.from_numpy(lm.vocabulary.kinds.astype("int64"))
    starts = torch.nonzero(kinds == int(TokenKind.TEXT))[:, 0]
    length = min(256, max(2, (lm.max_length or 256) - 1), max(2, num_tokens))
    batch = min(batch, max(1, -(-num_tokens // length)))
    texts: list[bytes] = []
    while num_tokens > 0:
        picked = torch.randint(len(starts), (batch,), generator=generator)
        rows = _sample_rows(lm, starts[picked], length, generator)
        num_tokens -= rows.numel()
        for row in rows.tolist():
            spoken = []
            for token_id in row:
                if kinds[token_id] in (int(TokenKind.SPECIAL), int(TokenKind.UNUSED)):
                    break
                spoken.append(token_id)
            texts.append(lm.vocabulary.bytes_of(spoken))
    return texts


def _sample_rows(
    lm: LanguageModel, first: Tensor, length: int, generator: torch.Generator
) -> Tensor:
    """Return ids, shape (batch, length), each row continued from its first token."""
    model, vocab_size = lm.model, lm.vocabulary.vocab_size
    cache = DynamicCache(config=model.config)
    rows = [first]
    for _ in range(length - 1):
        output = model(
            input_ids=rows[-1][:, None].to(model.device), past_key_values=cache, use_cache=True
        )
        probabilities = output.logits[:, -1, :vocab_size].float().cpu().softmax(-1)
        rows.append(torch.multinomial(probabilities, 1, generator=generator)[:, 0])
    return torch.stack(rows, dim=1)
