"""FastDraft: a small model for any target: pre-trained on text, then on what the target writes.

Source: Zafrir et al. 2024, https://arxiv.org/abs/2411.11055, sections 3.1 to 3.3: a shallow and
narrow model of the target's vocabulary, efficient pre-training, fine-tuning on text that the target
generates (sequence-level distillation).
Differs from the source: the embeddings begin as the target's own, projected to fewer dimensions;
the second part learns the target's distribution on its text, not its tokens alone; the
architecture is always that of Llama.
Cost: a training step of the small model; in the second part a forward of the target, and its text
is written once at the start.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, cast

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from transformers import LlamaConfig, LlamaForCausalLM

from jeton.decoding.training.contract import DRAFT_MODEL, Job, TrainInput
from jeton.decoding.training.model_folder import save_model
from jeton.decoding.training.rows import logits_of, row_length, sample_rows, soft_cross_entropy
from jeton.decoding.training.writing import write
from jeton.errors import ConfigError
from jeton.lm.load import LanguageModel


@dataclass(frozen=True, slots=True)
class FastDraft:
    """Options of the trainer.

    Attributes:
        num_layers: Of the draft model.
        hidden_size: Of the draft model, a multiple of 16.
        pretraining: Share of the steps on plain text; the rest is distillation.
        num_written: Rows that the target writes.
        prompt: Tokens of real text that such a row begins with.
        lr: Peak learning rate.
        batch_tokens: Tokens per step.
        length: Tokens per row.
    """

    num_layers: int = 1
    hidden_size: int = 128
    pretraining: float = 0.5
    num_written: int = 64
    prompt: int = 32
    lr: float = 3e-3
    batch_tokens: int = 2048
    length: int = 256

    makes: ClassVar[str] = DRAFT_MODEL
    needs_draft: ClassVar[bool] = False

    def __post_init__(self) -> None:
        sizes = (self.num_layers, self.num_written, self.prompt, self.batch_tokens, self.length)
        if min(sizes) < 1 or self.lr <= 0 or not 0 <= self.pretraining <= 1:
            raise ConfigError(f"sizes and lr must be above 0, pretraining in [0, 1]; got {self}")
        if self.hidden_size < 16 or self.hidden_size % 16:
            raise ConfigError(f"hidden_size must be a multiple of 16, got {self.hidden_size}")

    def prepare(self, inputs: TrainInput) -> Job:
        """Return the job; see `DraftTrainer.prepare`."""
        target = inputs.target
        length = row_length(target, inputs.token_ids, self.length)
        num_rows = max(1, self.batch_tokens // length)
        vocab_size = target.vocabulary.vocab_size
        draft = small_model(target, self.num_layers, self.hidden_size, inputs.seed)
        written: list[Tensor] = []

        def loss_of(step: int, num_steps: int) -> Tensor:
            if step < self.pretraining * num_steps:
                rows = sample_rows(inputs.token_ids, num_rows, length, inputs.seed, step)
                mine = draft(input_ids=rows[:, :-1], use_cache=False).logits[..., :vocab_size]
                return functional.cross_entropy(mine.flatten(0, 1).float(), rows[:, 1:].flatten())
            if not written:
                written.append(self._written(inputs, length))
            rng = np.random.default_rng([inputs.seed, step])
            rows = written[0][torch.from_numpy(rng.integers(0, len(written[0]), num_rows))]
            teacher = logits_of(target.model, rows, vocab_size).softmax(-1)
            mine = draft(input_ids=rows, use_cache=False).logits[..., :vocab_size].float()
            return soft_cross_entropy(teacher, mine)

        def finish(folder: Path) -> None:
            save_model(draft, None, target, folder)

        return Job(draft, loss_of, finish, self.lr, num_rows * length)

    def _written(self, inputs: TrainInput, length: int) -> Tensor:
        """Return rows of the target's own text, shape (num_written, length)."""
        prompt = min(self.prompt, length - 1)
        prompts = sample_rows(inputs.token_ids, self.num_written, prompt, inputs.seed, -1 & 0x7FFF)
        return write(
            inputs.target.model,
            prompts,
            length - prompt,
            vocab_size=inputs.target.vocabulary.vocab_size,
            temperature=1.0,
            rng=np.random.default_rng([inputs.seed, 7]),
        )


def small_model(
    target: LanguageModel, num_layers: int, hidden_size: int, seed: int
) -> LlamaForCausalLM:
    """Return a fresh small model with the target's embeddings in fewer dimensions."""
    special = target.model.config.get_text_config(decoder=True)
    heads = max(1, hidden_size // 32)
    config = LlamaConfig(
        vocab_size=target.num_embeddings,
        hidden_size=hidden_size,
        intermediate_size=3 * hidden_size,
        num_hidden_layers=num_layers,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        max_position_embeddings=target.max_length or 2048,
        tie_word_embeddings=True,
        bos_token_id=special.bos_token_id,
        eos_token_id=special.eos_token_id,
        pad_token_id=special.pad_token_id,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model: Any = LlamaForCausalLM(config)
    theirs: Any = target.model.get_input_embeddings()
    with torch.no_grad():
        model.get_input_embeddings().weight.copy_(project(theirs.weight.float(), hidden_size))
    model.eval()
    return cast(LlamaForCausalLM, model)


def project(weight: Tensor, hidden_size: int) -> Tensor:
    """Return a matrix in its most important dimensions, rows scaled to 0.02 per entry.

    Args:
        weight: Shape (rows, width).
        hidden_size: Columns of the result; those beyond `width` are zero.

    Example:
        >>> project(torch.tensor([[3.0, 0.0], [0.0, 1.0]]), 1).abs()
        tensor([[0.0283],
                [0.0000]])
    """
    centred = weight - weight.mean(0) if len(weight) > weight.shape[1] else weight
    _, vectors = torch.linalg.eigh(centred.T @ centred)
    found = centred @ vectors.flip(-1)[:, :hidden_size]
    found = functional.pad(found, (0, max(0, hidden_size - found.shape[1])))
    scale = 0.02 * math.sqrt(found.numel()) / float(found.norm().clamp_min(1e-12))
    return scale * found
