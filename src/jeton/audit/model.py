"""A model that metrics may ask: which answer to a prompt does it find most probable?"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from jeton.audit.evidence import AuditInput, Embeddings, FloatArray
from jeton.core.vocabulary import Vocabulary
from jeton.errors import TokenizerMismatchError
from jeton.lm.load import LanguageModel, load_model

_BATCH_TOKENS = 8192


class AskedModel:
    """Log-probabilities of a causal LM in nats, for token ids of its own vocabulary."""

    def __init__(self, lm: LanguageModel) -> None:
        self._lm = lm

    def answer_logprobs(
        self, prompts: Sequence[Sequence[int]], answers: Sequence[Sequence[int]]
    ) -> FloatArray:
        """Return the log-probability of each answer after its prompt, in nats, shape (prompts,).

        Args:
            prompts: Ids, at least one each.
            answers: Ids, at least one each.
        """
        found = np.zeros(len(prompts))
        order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]) + len(answers[i]))
        start = 0
        while start < len(order):
            longest = len(prompts[order[start]]) + len(answers[order[start]])
            part = [order[start]]
            for index in order[start + 1 :]:
                longest = max(longest, len(prompts[index]) + len(answers[index]))
                if longest * (len(part) + 1) > _BATCH_TOKENS:
                    break
                part.append(index)
            found[part] = self._score([(prompts[i], answers[i]) for i in part])
            start += len(part)
        return found

    def _score(self, pairs: Sequence[tuple[Sequence[int], Sequence[int]]]) -> list[float]:
        """Score one batch, padded on the right, where padding cannot reach back."""
        width = max(len(prompt) + len(answer) for prompt, answer in pairs)
        ids = torch.zeros((len(pairs), width), dtype=torch.long)
        for row, (prompt, answer) in enumerate(pairs):
            joined = torch.tensor([*prompt, *answer])
            ids[row, : len(joined)] = joined
        lengths = torch.tensor([len(prompt) + len(answer) for prompt, answer in pairs])
        mask = (torch.arange(width)[None] < lengths[:, None]).long()  # (prompts, seq)
        device = self._lm.device
        with torch.inference_mode():
            logits = self._lm.model(
                input_ids=ids.to(device), attention_mask=mask.to(device), use_cache=False
            ).logits
        scores = []
        for row, (prompt, answer) in enumerate(pairs):
            places = logits[row, len(prompt) - 1 : len(prompt) + len(answer) - 1].float()
            logprobs = torch.log_softmax(places, dim=-1)  # (answer, num_embeddings)
            chosen = torch.tensor(list(answer), device=device)
            scores.append(float(logprobs.gather(1, chosen[:, None]).sum()))
        return scores


def with_model(given: AuditInput, source: str) -> AuditInput:
    """Return the input with a model and its embeddings.

    Raises:
        TokenizerMismatchError: the model belongs to another vocabulary.
        JetonError: the model cannot be loaded.
    """
    lm = load_model(source)
    check_same(given.vocabulary, lm.vocabulary, lm.name)
    rows = _rows(lm.model.get_input_embeddings())
    head = lm.model.get_output_embeddings()
    output = None if head is None else _rows(head)
    is_tied = output is None or (output.shape == rows.shape and np.array_equal(output, rows))
    embeddings = Embeddings(rows, None if is_tied else output)
    return replace(given, embeddings=embeddings, model=AskedModel(lm))


def _rows(layer: Any) -> FloatArray:
    """Return a layer's weight, shape (num_embeddings, hidden), float32."""
    found: FloatArray = layer.weight.detach().float().cpu().numpy()
    return found


def check_same(audited: Vocabulary, own: Vocabulary, name: str) -> None:
    """Refuse a model whose ids mean other bytes.

    Raises:
        TokenizerMismatchError: naming the first id that differs.
    """
    if audited.vocab_size != own.vocab_size:
        raise TokenizerMismatchError(
            f"{audited.name} has {audited.vocab_size:,} ids, the model {name} {own.vocab_size:,}",
            hint="audit the tokenizer of the model: give the model's folder as TOKENIZER",
        )
    for token_id, (one, other) in enumerate(zip(audited.tokens, own.tokens, strict=True)):
        if one != other:
            raise TokenizerMismatchError(
                f"id {token_id} is {one!r} in {audited.name} and {other!r} in the model {name}",
                hint="audit the tokenizer of the model: give the model's folder as TOKENIZER",
            )
