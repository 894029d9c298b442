"""DistillSpec: a draft model learns the target's distribution on text that a model wrote.

Source: Zhou et al. 2023, https://arxiv.org/abs/2310.08461, Algorithm 1 and section 3.2: text of
the draft itself (on-policy) or of the target, and a divergence that fits task and decoding.
Differs from the source: the default divergence follows the temperature: forward KL for greedy
decoding, total variation for sampling, whose acceptance is one minus it; rows begin with a prompt
of real text, on which the loss counts too.
Cost: writing the rows, a forward of the target, a training step of the draft model.
"""

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
from torch import Tensor

from jeton.decoding.training.contract import DRAFT_MODEL, Job, TrainInput
from jeton.decoding.training.divergences import DIVERGENCES
from jeton.decoding.training.model_folder import save_model
from jeton.decoding.training.rows import logits_of, row_length, sample_rows
from jeton.decoding.training.writing import write
from jeton.errors import ConfigError

WRITERS = ("draft", "target", "text")


@dataclass(frozen=True, slots=True)
class DistillSpec:
    """Options of the trainer.

    Attributes:
        divergence: forward_kl, reverse_kl, jsd or tvd; empty: what fits the temperature.
        temperature: Of the decoding that the draft is for; 0 is greedy.
        writer: Who writes the rows: draft, target, or text for none.
        prompt: Tokens of real text that a row begins with.
        lr: Peak learning rate.
        num_rows: Rows per step.
        length: Tokens per row.
    """

    divergence: str = ""
    temperature: float = 0.0
    writer: str = "target"
    prompt: int = 64
    lr: float = 1e-3
    num_rows: int = 16
    length: int = 128

    makes: ClassVar[str] = DRAFT_MODEL
    needs_draft: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.divergence and self.divergence not in DIVERGENCES:
            raise ConfigError(
                f"divergence must be one of {', '.join(DIVERGENCES)}, got {self.divergence!r}"
            )
        if self.writer not in WRITERS:
            raise ConfigError(f"writer must be one of {', '.join(WRITERS)}, got {self.writer!r}")
        if min(self.prompt, self.num_rows, self.length) < 1 or self.lr <= 0 or self.temperature < 0:
            raise ConfigError(f"sizes and lr must be above 0, temperature not below; got {self}")

    def prepare(self, inputs: TrainInput) -> Job:
        """Return the job; see `DraftTrainer.prepare`."""
        target, draft = inputs.target, inputs.draft
        assert draft is not None, "needs_draft was not heeded"
        length = row_length(draft, inputs.token_ids, self.length)
        length = row_length(target, inputs.token_ids, length)
        prompt = min(self.prompt, length - 1)
        vocab_size = target.vocabulary.vocab_size
        student = copy.deepcopy(draft.model).float()
        student.requires_grad_(True)
        writer = {"draft": student, "target": target.model, "text": None}[self.writer]
        name = self.divergence or ("tvd" if self.temperature > 0 else "forward_kl")
        distance = DIVERGENCES[name]
        scale = self.temperature or 1.0

        def loss_of(step: int, num_steps: int) -> Tensor:
            rows = sample_rows(inputs.token_ids, self.num_rows, length, inputs.seed, step)
            if writer is not None:
                rows = write(
                    writer,
                    rows[:, :prompt],
                    length - prompt,
                    vocab_size=vocab_size,
                    temperature=1.0,
                    rng=np.random.default_rng([inputs.seed, step, 1]),
                )
            theirs = (logits_of(target.model, rows, vocab_size) / scale).log_softmax(-1)
            mine = student(input_ids=rows, use_cache=False).logits[..., :vocab_size].float()
            return distance(theirs, (mine / scale).log_softmax(-1)).mean()

        def finish(folder: Path) -> None:
            save_model(student, draft.path, target, folder)

        return Job(student, loss_of, finish, self.lr, self.num_rows * length)
