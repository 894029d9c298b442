"""The job of training heads on the target's last hidden state, shared by Medusa and Hydra."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor

from jeton.decoding.heads import Heads
from jeton.decoding.training.contract import Job, TrainInput
from jeton.decoding.training.rows import (
    float_copy,
    last_hidden,
    linear,
    row_length,
    sample_rows,
    soft_cross_entropy,
)
from jeton.decoding.weights import Weights, save_weights, target_sizes
from jeton.errors import ConfigError


def frequent_ids(token_ids: Tensor, num_ids: int, vocab_size: int) -> Tensor:
    """Return the ids that stand most often in a text, ascending; ties take the lowest id."""
    counts = torch.bincount(token_ids, minlength=vocab_size)[:vocab_size]
    best = torch.argsort(counts, descending=True, stable=True)[: min(num_ids, vocab_size)]
    return best.sort().values


@dataclass(frozen=True, slots=True)
class HeadTraining:
    """Options of trainers of heads.

    Attributes:
        num_heads: Tokens that can be drafted.
        width: Of the layer inside a head.
        num_ids: Token ids that can be drafted, the most frequent ones; 0 for all.
        decay: Weight of a head's loss relative to that of the head before.
        lr: Peak learning rate.
        batch_tokens: Tokens per step.
        length: Tokens per row.
    """

    num_heads: int = 3
    width: int = 384
    num_ids: int = 2048
    decay: float = 0.8
    lr: float = 2e-3
    batch_tokens: int = 2048
    length: int = 512

    makes: ClassVar[str]
    sees_tokens: ClassVar[bool]
    needs_draft: ClassVar[bool] = False

    def __post_init__(self) -> None:
        sizes = (self.num_heads, self.width, self.batch_tokens, self.length)
        if min(sizes) < 1 or self.num_ids < 0 or self.lr <= 0 or not 0 < self.decay <= 1:
            raise ConfigError(
                "num_heads, width, batch_tokens and length must be at least 1, num_ids at least "
                f"0, lr above 0 and decay in (0, 1]; got {self}"
            )

    def prepare(self, inputs: TrainInput) -> Job:
        """Return the job; see `DraftTrainer.prepare`."""
        return head_job(inputs, self.makes, sees_tokens=self.sees_tokens, **asdict(self))


def head_job(
    inputs: TrainInput,
    kind: str,
    *,
    sees_tokens: bool,
    num_heads: int,
    width: int,
    num_ids: int,
    decay: float,
    lr: float,
    batch_tokens: int,
    length: int,
) -> Job:
    """Return the job; the target's distribution at the place that a head guesses is its teacher."""
    target, model = inputs.target, inputs.target.model
    length = row_length(target, inputs.token_ids, length)
    num_rows = max(1, batch_tokens // length)
    sizes = target_sizes(model)
    ids = frequent_ids(
        inputs.token_ids, num_ids or sizes["num_embeddings"], target.vocabulary.vocab_size
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(inputs.seed)
        heads = Heads(sizes["hidden_size"], num_heads, width, len(ids), sees_tokens=sees_tokens)
    heads.vocabulary = ids
    output = model.get_output_embeddings()
    weight, bias = float_copy(output.weight[ids]), float_copy(_rows(output.bias, ids))
    embed = model.get_input_embeddings()
    assert weight is not None

    def loss_of(step: int, num_steps: int) -> Tensor:
        rows = sample_rows(inputs.token_ids, num_rows, length, inputs.seed, step)
        hidden = last_hidden(model, rows)
        with torch.no_grad():
            teacher = linear(hidden, weight, bias).softmax(-1)
            embedded = embed(rows).float()
        total = hidden.new_zeros(())
        for index in range(num_heads):
            places = length - 1 - index  # places whose guess has a teacher
            tokens = None
            if sees_tokens:
                after = [embedded[:, 1 + i : 1 + i + places] for i in range(index + 1)]
                tokens = torch.cat(after, dim=-1)
            state = heads.state(index, hidden[:, :places], tokens)
            loss = soft_cross_entropy(teacher[:, 1 + index :], linear(state, weight, bias))
            total = total + decay**index * loss
        return total

    def finish(folder: Path) -> None:
        config = {**sizes, "num_heads": num_heads, "width": width, "target": target.name}
        tensors = {
            name: tensor.to(model.dtype) if tensor.is_floating_point() else tensor
            for name, tensor in heads.state_dict().items()
        }
        save_weights(folder, Weights(kind, config, tensors))

    return Job(heads, loss_of, finish, lr, num_rows * length)


def _rows(bias: Tensor | None, ids: Tensor) -> Tensor | None:
    return None if bias is None else bias[ids]
