"""The network of ZeTT: from the source rows that spell a token to the token's own rows.

Source: Minixhofer et al. 2024, "Zero-Shot Tokenizer Transfer", https://arxiv.org/abs/2405.07883,
section 3.2.
Differs from the source: the last map starts at zero and is added to the mean of the parts, so that
the untrained network is FVT and a token of one part keeps its row exactly; no output bias.
Cost: a small transformer over at most `max_parts` positions per token.
"""

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from jeton.core.run import write_atomically
from jeton.core.vocabulary import Vocabulary
from jeton.errors import CheckpointError, ConfigError, InputError, TokenizerMismatchError
from jeton.starter import hypernetwork_path

KIND = "zett-hypernetwork"
_BLOCK = 2048  # tokens per forward when a whole vocabulary is predicted


@dataclass(frozen=True, slots=True)
class HypernetworkConfig:
    """Shape of the network and the base that it was made for.

    Attributes:
        columns: Of the rows: hidden size of the model; twice that when it is untied.
        source: Fingerprint of the source vocabulary, see `fingerprint`.
        width: Of the layers.
        num_layers: Transformer layers.
        num_heads: Attention heads; divides `width`.
        max_parts: Longest spelling that the network sees; longer ones keep their mean.
        scale: Spread of the source rows, so that the network works on unit numbers.
    """

    columns: int
    source: str
    width: int = 256
    num_layers: int = 2
    num_heads: int = 4
    max_parts: int = 8
    scale: float = 1.0

    def __post_init__(self) -> None:
        sizes = (self.columns, self.width, self.num_layers, self.num_heads)
        if min(sizes) < 1 or self.width % self.num_heads or self.max_parts < 2:
            raise ConfigError(
                "columns, width, num_layers and num_heads must be positive, num_heads a divisor of "
                f"width and max_parts at least 2; got {sizes} and {self.max_parts}"
            )
        if not (math.isfinite(self.scale) and self.scale > 0):
            raise ConfigError(f"scale must be a number above 0, got {self.scale}")


class Hypernetwork(nn.Module):
    """Predicts rows of tokens from the rows of their parts."""

    def __init__(self, config: HypernetworkConfig) -> None:
        super().__init__()
        self.config = config
        self.enter = nn.Linear(config.columns, config.width)
        self.place = nn.Parameter(torch.zeros(config.max_parts, config.width))
        layer = nn.TransformerEncoderLayer(
            config.width,
            config.num_heads,
            4 * config.width,
            dropout=0.0,
            activation="gelu",
            batch_first=True,
            norm_first=True,
        )
        self.layers = nn.TransformerEncoder(layer, config.num_layers, enable_nested_tensor=False)
        self.norm = nn.LayerNorm(config.width)
        self.leave = nn.Linear(2 * config.width, config.columns)
        nn.init.zeros_(self.leave.weight)
        nn.init.zeros_(self.leave.bias)

    def forward(self, rows: Tensor, parts: Tensor) -> Tensor:
        """Return predicted rows, shape (tokens, columns).

        Args:
            rows: Of the source, input beside output where untied, shape (vocab, columns).
            parts: Source ids that spell each token, shape (tokens, longest), -1 behind the last;
                longest <= max_parts.
        """
        is_part = parts >= 0
        given = rows[parts.clamp_min(0)]  # (tokens, longest, columns)
        weight = is_part.unsqueeze(-1).to(rows.dtype)
        mean = (given * weight).sum(1) / weight.sum(1)
        hidden = self.enter(given / self.config.scale) + self.place[: parts.shape[1]]
        hidden = self.norm(self.layers(hidden, src_key_padding_mask=~is_part))
        pooled = torch.cat([(hidden * weight).sum(1) / weight.sum(1), hidden[:, 0]], 1)
        change = self.leave(pooled) * self.config.scale
        is_compound = (is_part.sum(1) > 1).unsqueeze(1)
        return mean + torch.where(is_compound, change, torch.zeros_like(change))

    def predict(self, rows: Tensor, spellings: Sequence[Sequence[int]]) -> Tensor:
        """Return rows of tokens of any number of parts, in their order; without gradients.

        Args:
            rows: As in `forward`.
            spellings: Source ids of each token, at least one.
        """
        result = torch.empty(len(spellings), rows.shape[1])
        by_length = sorted(range(len(spellings)), key=lambda i: (len(spellings[i]), i))
        with torch.inference_mode():
            for start in range(0, len(by_length), _BLOCK):
                block = by_length[start : start + _BLOCK]
                short = [i for i in block if len(spellings[i]) <= self.config.max_parts]
                for i in block[len(short) :]:
                    result[i] = rows[list(spellings[i])].mean(0)
                if short:
                    result[short] = self(rows, pad_parts([spellings[i] for i in short]))
        return result

    def save(self, folder: Path, notes: dict[str, Any] | None = None) -> None:
        """Write config.json and model.safetensors into a folder."""
        folder.mkdir(parents=True, exist_ok=True)
        state = {name: value.contiguous() for name, value in self.state_dict().items()}
        write_atomically(folder / "model.safetensors", save(state))
        document = {"kind": KIND, **asdict(self.config), "notes": notes or {}}
        write_atomically(folder / "config.json", json.dumps(document, indent=2) + "\n")


def load_hypernetwork(folder: str | Path, source: Vocabulary) -> Hypernetwork:
    """Return a trained hypernetwork for this source vocabulary, in float32.

    Raises:
        InputError: the folder holds none.
        CheckpointError: its files are damaged or do not fit each other.
        TokenizerMismatchError: it was trained for another source vocabulary.
    """
    folder = Path(folder).expanduser()
    try:
        document = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(
            f"{folder} holds no hypernetwork: {error.strerror}",
            hint="train one with `jeton hypernetwork MODEL --text DIR --out DIR`",
        ) from error
    except ValueError as error:
        raise CheckpointError(f"{folder}/config.json is damaged: {error}") from error
    if not isinstance(document, dict) or document.pop("kind", None) != KIND:
        raise InputError(f"{folder} holds no hypernetwork", hint=f'its "kind" must be "{KIND}"')
    document.pop("notes", None)
    try:
        network = Hypernetwork(HypernetworkConfig(**document))
        state = load_file(folder / "model.safetensors")
        network.load_state_dict({name: value.float() for name, value in state.items()})
    except (TypeError, OSError, RuntimeError, SafetensorError, ConfigError) as error:
        raise CheckpointError(
            f"the hypernetwork in {folder} cannot be read: {error}", hint="train it again"
        ) from error
    if network.config.source != fingerprint(source):
        raise TokenizerMismatchError(
            f"the hypernetwork in {folder} was trained for another source vocabulary",
            hint="it serves its base model and that model's fine-tunes, with the same tokenizer",
        )
    return network.eval()


def network_for(source: Vocabulary, columns: int, folder: str | Path = "") -> Hypernetwork:
    """Return the hypernetwork for a model, the one that comes with jeton where none is named.

    Args:
        source: Vocabulary of the model.
        columns: Of its rows, see `HypernetworkConfig`.
        folder: Of the network; empty for that of the starter model and its fine-tunes.
    Raises:
        ConfigError: none is named, and none comes with jeton for such a model.
        TokenizerMismatchError: it was trained for another vocabulary or width.
    """
    network = load_hypernetwork(folder, source) if folder else _shipped(source, columns)
    if network is None:
        raise ConfigError(
            "there is no hypernetwork that was trained for the source model",
            hint="train one with `jeton hypernetwork MODEL --text DIR --out NET` and name it",
        )
    if columns != network.config.columns:
        raise TokenizerMismatchError(
            f"the hypernetwork predicts rows of {network.config.columns} numbers, the model "
            f"has {columns}",
            hint="give the network of this model's base",
        )
    return network


def comes_with_jeton(source: Vocabulary, columns: int) -> bool:
    """Whether jeton holds a network for this model: the starter model and its fine-tunes.

    Args:
        source: Vocabulary of the model.
        columns: Of its rows, see `HypernetworkConfig`.
    """
    try:
        document = json.loads((hypernetwork_path() / "config.json").read_text(encoding="utf-8"))
    except FileNotFoundError:  # installed without the data
        return False
    return bool((document["source"], document["columns"]) == (fingerprint(source), columns))


def best_start(source: Vocabulary, columns: int, hypernetwork: str = "") -> str:
    """Return the initializer that "auto" stands for: `zett` where there is a network, else `mean`.

    Args:
        source: Vocabulary of the model.
        columns: Of its rows, see `HypernetworkConfig`.
        hypernetwork: Folder of the user's own network, or empty.
    """
    return "zett" if hypernetwork or comes_with_jeton(source, columns) else "mean"


def _shipped(source: Vocabulary, columns: int) -> Hypernetwork | None:
    """Return the starter model's network, when this is such a model."""
    if not comes_with_jeton(source, columns):
        return None
    return load_hypernetwork(hypernetwork_path(), source)


def fingerprint(vocabulary: Vocabulary) -> str:
    """Return a digest of the bytes of all tokens in id order."""
    digest = hashlib.sha256()
    for token in vocabulary.tokens:
        digest.update(len(token).to_bytes(4, "little") + token)
    return digest.hexdigest()[:16]


def pad_parts(spellings: Sequence[Sequence[int]]) -> Tensor:
    """Return spellings as one tensor of shape (tokens, longest), -1 behind the last part."""
    longest = max(map(len, spellings))
    return torch.tensor([[*ids, *[-1] * (longest - len(ids))] for ids in spellings])
