"""Greedy agreement: how far two models with different vocabularies write the same bytes."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from jeton.lm.load import LanguageModel, quiet_transformers

PROMPT_BYTES = 384
CONTINUED_BYTES = 64
NUM_PROMPTS = 12


@dataclass(frozen=True, slots=True)
class Agreement:
    """Greedy continuations of the same prompts by two models.

    Attributes:
        num_prompts: Pieces of held-out text, cut after a line.
        continued_bytes: Bytes that each continuation is compared on.
        share: Mean share of these bytes up to the first difference, in [0, 1].
        identical: Share of the prompts whose continuations are equal, in [0, 1].
    """

    num_prompts: int
    continued_bytes: int
    share: float
    identical: float


def greedy_agreement(
    source: LanguageModel, destination: LanguageModel, texts: Sequence[str]
) -> Agreement:
    """Return how far both models write the same bytes, greedily, after pieces of the texts."""
    given = prompts(texts, min(_room(source), _room(destination), PROMPT_BYTES))
    shares = []
    for prompt in given:
        first, second = (continue_greedily(lm, prompt) for lm in (source, destination))
        shares.append(common_prefix(first, second) / CONTINUED_BYTES)
    count = max(1, len(given))
    return Agreement(
        num_prompts=len(given),
        continued_bytes=CONTINUED_BYTES,
        share=sum(shares) / count,
        identical=sum(share == 1 for share in shares) / count,
    )


def _room(lm: LanguageModel) -> int:
    """Return a size of prompt in bytes that fits even if each byte is a token."""
    return max(16, (lm.max_length or 1 << 20) - CONTINUED_BYTES - 2)


def prompts(texts: Sequence[str], size_bytes: int) -> list[bytes]:
    """Return up to `NUM_PROMPTS` pieces spread over the texts, each ending after a line or word."""
    data = "\n".join(texts).encode()
    step = max(1, len(data) // NUM_PROMPTS)
    found = []
    for start in range(0, len(data), step):
        piece = data[start : start + size_bytes].decode(errors="ignore")
        end = max(piece.rfind("\n") + 1, 0) or max(piece.rfind(" "), 0) or len(piece)
        if piece[:end].strip():
            found.append(piece[:end].encode())
    return found[:NUM_PROMPTS]


def common_prefix(first: bytes, second: bytes) -> int:
    """Return how many bytes are equal from the start, at most `CONTINUED_BYTES`.

    Example:
        >>> common_prefix(b"return x", b"return y")
        7
    """
    first, second = first[:CONTINUED_BYTES], second[:CONTINUED_BYTES]
    for index in range(CONTINUED_BYTES):
        if first[index : index + 1] != second[index : index + 1]:
            return index
    return CONTINUED_BYTES


@torch.inference_mode()
def continue_greedily(lm: LanguageModel, prompt: bytes) -> bytes:
    """Return `CONTINUED_BYTES` bytes or more after a prompt, less where the model stops."""
    vocabulary = lm.vocabulary
    start = vocabulary.bos_token_id
    ids = ([] if start is None else [start]) + vocabulary.encode(prompt)
    written: list[int] = []
    given = torch.tensor([ids], device=lm.device)
    past = None
    while len(vocabulary.bytes_of(written)) < CONTINUED_BYTES and len(written) < CONTINUED_BYTES:
        with quiet_transformers():
            output = lm.model(input_ids=given, past_key_values=past, use_cache=True)
        past = output.past_key_values
        best = int(output.logits[0, -1, : vocabulary.vocab_size].argmax())
        if best == vocabulary.eos_token_id:
            break
        written.append(best)
        given = torch.tensor([[best]], device=lm.device)
    return vocabulary.bytes_of(written)
