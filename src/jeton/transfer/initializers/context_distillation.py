"""Context distillation: fit the new rows so that the frozen model reads a text as it did before.

Source: Dobler et al. 2025, "AWEDIST: Attention-aware Embedding Distillation for New Input Token
Embeddings", https://arxiv.org/abs/2505.20133: hidden states behind a new token match those behind
its old parts.
Differs from the source: whole texts instead of snippets around one token, all new rows at once;
the ordinary language-model loss stands beside the match, since it also teaches the output rows;
Adam is dampened, which otherwise moves rare rows as far as frequent ones (docs/log.md).
Cost: `steps` forward and backward passes through the frozen model, and as many forwards of the
source where `hidden_weight` is not 0.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from jeton.errors import ConfigError, UnsupportedModelError
from jeton.transfer.contract import EmbeddingInitializer, InitInput, InitResult
from jeton.transfer.damping import damp
from jeton.transfer.hypernetwork import best_start
from jeton.transfer.matching import match_tokens
from jeton.transfer.static_vectors import Sequences, encodable, tokenize
from jeton.transfer.transplant import with_rows


@dataclass(frozen=True, slots=True)
class ContextDistillation:
    """Options.

    Attributes:
        start: Initializer whose rows are fitted; "auto" is `zett` where there is a network for the
            source, else `mean`.
        hypernetwork: That network, as in `zett`.
        steps: Optimizer steps.
        batch: Rows of text per step.
        length: Tokens per row.
        lr: Peak learning rate of the rows; falls to zero.
        damping: Share of the new rows' root mean square gradient that is added to that of each
            entry; large, so that a step is about proportional to the gradient.
        hidden_weight: Of the distance between hidden states, relative to their square.
        text_weight: Of the cross-entropy of the text, in nats per token.
    """

    start: str = "auto"
    hypernetwork: str = ""
    steps: int = 600
    batch: int = 2
    length: int = 256
    lr: float = 0.05
    damping: float = 5.0
    hidden_weight: float = 0.0
    text_weight: float = 1.0

    copies_shared: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if min(self.steps, self.batch) < 1 or self.length < 8 or self.lr <= 0:
            raise ConfigError("steps, batch and lr must be positive and length at least 8")
        if self.damping < 0:
            raise ConfigError(f"damping must be 0 or more, got {self.damping}")
        weights = (self.hidden_weight, self.text_weight)
        if min(weights) < 0 or not any(weights) or self.start == "context_distillation":
            raise ConfigError(
                "hidden_weight and text_weight must not be negative nor both 0, and start must "
                f"name another initializer; got {weights} and {self.start!r}"
            )

    def initialize(self, inputs: InitInput) -> InitResult:
        """Return the destination matrices; see the module's text."""
        begun = self._begin(inputs)
        matches = match_tokens(inputs.source, inputs.destination)
        is_new = torch.tensor([not match.is_shared for match in matches])
        texts = encodable(inputs.texts, inputs.source, inputs.destination)
        if not is_new.any():
            return begun
        if inputs.model is None or not texts:
            raise ConfigError(
                "context_distillation needs the source model and text of the user",
                hint="give --text; from Python, call jeton.transfer.transplant with texts",
            )
        if not inputs.model.can_generate():
            raise UnsupportedModelError(
                f"context_distillation reads text from left to right, which "
                f"{type(inputs.model).__name__} does not",
                hint="take another initializer, for example tokenadapt",
            )
        new = tokenize(inputs.destination, texts)
        old = tokenize(inputs.source, texts) if self.hidden_weight else new
        length = min(self.length, len(new.ids) - 2)
        if length < 8:
            raise ConfigError(f"the text has only {len(new.ids)} tokens", hint="give more --text")
        student = with_rows(inputs.model, begun).float().eval().requires_grad_(False)
        rows = [student.get_input_embeddings().weight]
        if begun.output_embeddings is not None:
            rows.append(student.get_output_embeddings().weight)
        for matrix in rows:
            matrix.requires_grad_(True)

        def loss(step: int) -> Tensor:
            rng = np.random.default_rng([inputs.seed, step])
            starts = rng.integers(0, len(new.ids) - length - 1, self.batch)
            return self._loss(student, inputs.model, old, new, starts.tolist(), length)

        self._fit(rows, is_new, loss)
        return _with_new_rows(begun, [matrix.detach() for matrix in rows], is_new)

    def _begin(self, inputs: InitInput) -> InitResult:
        """Return the rows to fit."""
        from jeton.transfer.registry import INITIALIZERS

        name = self.start
        if name == "auto":
            columns = inputs.input_embeddings.shape[1] * (
                1 + (inputs.output_embeddings is not None)
            )
            name = best_start(inputs.source, columns, self.hypernetwork)
        options = {"hypernetwork": self.hypernetwork} if name == "zett" else {}
        start: EmbeddingInitializer = INITIALIZERS.create(name, options)
        return start.initialize(inputs)

    def _fit(self, rows: list[Tensor], is_new: Tensor, loss: Callable[[int], Tensor]) -> None:
        """Train the new rows of matrices in place; the others keep their bits."""
        groups = [{"params": [matrix]} for matrix in rows]
        optimizer = torch.optim.Adam(groups, lr=self.lr, betas=(0.9, 0.98))
        frozen = (~is_new).nonzero().flatten()
        moving, share = {id(matrix) for matrix in rows}, float(is_new.float().mean())
        for step in range(self.steps):
            loss(step).backward()
            for matrix in rows:
                assert matrix.grad is not None
                matrix.grad[frozen] = 0
            torch.nn.utils.clip_grad_norm_(rows, 1.0)
            damp(optimizer, moving, self.damping / share**0.5)  # the frozen rows count as zeros
            factor = min(1.0, (step + 1) / 10) * min(1.0, 1.25 * (1 - step / self.steps))
            for group in optimizer.param_groups:
                group["lr"] = self.lr * factor
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

    def _loss(
        self,
        student: Any,
        teacher: Any,
        old: Sequences,
        new: Sequences,
        starts: Sequence[int],
        length: int,
    ) -> Tensor:
        """Return the loss of one batch of rows that begin at these tokens."""
        batch = torch.stack([torch.from_numpy(new.ids[s : s + length + 1]) for s in starts])
        output = student(
            input_ids=batch[:, :-1], use_cache=False, output_hidden_states=self.hidden_weight > 0
        )
        loss = torch.zeros(())
        if self.text_weight:
            nats = functional.cross_entropy(output.logits.flatten(0, 1), batch[:, 1:].flatten())
            loss = loss + self.text_weight * nats
        if self.hidden_weight:
            for row, start in enumerate(starts):
                places, wanted = _teacher_states(teacher, old, new, int(start), length)
                if len(places):
                    found = output.hidden_states[-1][row, places]
                    distance = (found - wanted).square().sum(-1).mean()
                    scale = wanted.square().sum(-1).mean() * len(starts)
                    loss = loss + self.hidden_weight * distance / scale
        return loss


def _teacher_states(
    teacher: Any, old: Sequences, new: Sequences, start: int, length: int
) -> tuple[Tensor, Tensor]:
    """Return places in the student's row that end where a source token ends, and states there.

    Only places from the first common start of a token on are compared.
    """
    begins, ends = new.starts[start : start + length], new.stops[start : start + length]
    first = int(np.searchsorted(old.starts, begins[0]))
    last = int(np.searchsorted(old.stops, ends[-1], side="right"))
    if first >= last:
        return torch.zeros(0, dtype=torch.long), torch.zeros(0)
    _, places, theirs = np.intersect1d(ends, old.stops[first:last], return_indices=True)
    with torch.inference_mode():
        ids = torch.from_numpy(old.ids[first:last])[None]
        states = teacher(input_ids=ids, use_cache=False, output_hidden_states=True)
    return torch.from_numpy(places), states.hidden_states[-1][0, torch.from_numpy(theirs)].float()


def _with_new_rows(begun: InitResult, trained: list[Tensor], is_new: Tensor) -> InitResult:
    """Return the result with trained rows where they are new; the others keep their bits."""
    new_input = begun.input_embeddings.clone()
    new_input[is_new] = trained[0][is_new].to(new_input.dtype)
    new_output = begun.output_embeddings
    if new_output is not None:
        new_output = new_output.clone()
        new_output[is_new] = trained[1][is_new].to(new_output.dtype)
    return replace(begun, input_embeddings=new_input, output_embeddings=new_output)
