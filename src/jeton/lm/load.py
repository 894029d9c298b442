"""Load a causal LM folder or hub name: safetensors only, complete, with a tokenizer that fits."""

import contextlib
import json
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import huggingface_hub
import torch
import transformers
from huggingface_hub.errors import (
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    StrictDataclassError,
)
from safetensors import SafetensorError, safe_open
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from jeton.core.vocabulary import Vocabulary, load_vocabulary
from jeton.errors import (
    CheckpointError,
    ConfigError,
    InputError,
    MissingExtraError,
    TokenizerMismatchError,
    UnsupportedModelError,
)
from jeton.lm.runner import num_embeddings_of

DTYPES = ("auto", "float32", "bfloat16", "float16")
STARTERS = ("starter", "starter-draft")
_FILES = ["*.json", "*.safetensors", "*.model", "*.tiktoken", "*.txt", "*.jinja"]
_NARROW = frozenset({"I8", "U8", "F8_E4M3", "F8_E5M2"})
_READ_ERRORS = (
    SafetensorError,
    StrictDataclassError,
    ArithmeticError,
    AttributeError,
    KeyError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
)


@dataclass
class LanguageModel:
    """A causal LM with its tokenizer and the exact bytes of every token.

    Attributes:
        model: In evaluation mode.
        tokenizer: The Hugging Face tokenizer, None when transformers cannot build one.
        vocabulary: Bytes and encoding of the same tokenizer; `vocab_size` <= `num_embeddings`.
        name: What was asked for.
        path: The folder, None for a model made in memory.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase | None
    vocabulary: Vocabulary
    name: str
    path: Path | None = None

    def __post_init__(self) -> None:
        if self.vocabulary.vocab_size > self.num_embeddings:
            raise TokenizerMismatchError(
                f"the tokenizer of {self.name} has ids up to {self.vocabulary.vocab_size - 1}, the "
                f"model has {self.num_embeddings} embeddings",
                hint="give the tokenizer that belongs to the model, or resize its embeddings",
            )

    @property
    def num_parameters(self) -> int:
        """Parameters, tied ones counted once."""
        return sum(parameter.numel() for parameter in self.model.parameters())

    @property
    def size_bytes(self) -> int:
        """Memory of the parameters."""
        return sum(p.numel() * p.element_size() for p in self.model.parameters())

    @property
    def num_embeddings(self) -> int:
        """Rows of the input embedding."""
        return num_embeddings_of(self.model)

    @property
    def max_length(self) -> int | None:
        """Positions that the model was made for, None when it names none."""
        config = self.model.config.get_text_config(decoder=True)
        found = getattr(config, "max_position_embeddings", None)
        return int(found) if found else None

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return self.model.device

    @property
    def dtype(self) -> torch.dtype:
        """Of the parameters."""
        return self.model.dtype


def load_model(
    source: str | Path,
    *,
    dtype: str = "auto",
    device: str = "cpu",
    trust_remote_code: bool = False,
) -> LanguageModel:
    """Load a model and its tokenizer.

    Args:
        source: A folder, "starter" or "starter-draft", or a name on the hub.
        dtype: One of `DTYPES`; "auto" keeps that of the checkpoint.
        device: "cpu", "cuda" or "cuda:1".
        trust_remote_code: Whether Python code of the checkpoint may run.
    Raises:
        InputError: there is no such folder or name.
        ConfigError: dtype or device is not available.
        UnsupportedModelError: the checkpoint is of no causal language model.
        CheckpointError: the weights are no safetensors, damaged, incomplete or have a surplus.
        TokenizerError: the tokenizer cannot be read.
        TokenizerMismatchError: the tokenizer has ids without an embedding.
    """
    _check_options(dtype, device)
    path = _resolve(source)
    with quiet_transformers():
        config = _read_config(path, trust_remote_code)
        _check_weight_files(path)
        vocabulary = load_vocabulary(path)
        _check_weight_types(path, config)
        model = _read_model(path, config, dtype, trust_remote_code)
        tokenizer = _read_tokenizer(path, trust_remote_code)
    model.to(device)  # type: ignore[arg-type]
    model.eval()
    return LanguageModel(model, tokenizer, vocabulary, str(source), path)


@contextlib.contextmanager
def quiet_transformers() -> Iterator[None]:
    """Silence reports and bars of transformers within the block; problems are raised instead."""
    verbosity = transformers.logging.get_verbosity()
    had_bars = transformers.logging.is_progress_bar_enabled()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        transformers.logging.set_verbosity_error()
        transformers.logging.disable_progress_bar()
        try:
            yield
        finally:
            transformers.logging.set_verbosity(verbosity)
            if had_bars:
                transformers.logging.enable_progress_bar()


def _check_options(dtype: str, device: str) -> None:
    if dtype not in DTYPES:
        raise ConfigError(
            f"dtype must be one of {', '.join(DTYPES)}; got {dtype!r}", hint="use auto"
        )
    try:
        kind = torch.device(device).type
    except RuntimeError:
        raise ConfigError(f"device {device!r} is unknown", hint="use cpu or cuda") from None
    if kind == "cuda" and not torch.cuda.is_available():
        raise ConfigError("device cuda was asked, but no CUDA device is available", hint="use cpu")


def _resolve(source: str | Path) -> Path:
    """Return the local folder of a model."""
    name = str(source)
    path = Path(source).expanduser()
    if path.is_dir():
        return path
    if name in STARTERS:
        from jeton.starter import starter_path

        return Path(starter_path(name))
    if path.exists():
        raise InputError(f"{path} is no folder", hint="give the folder that holds config.json")
    looks_local = (
        isinstance(source, Path) or name.startswith((".", "/", "~")) or name.count("/") > 1
    )
    if looks_local:
        raise InputError(f"there is no folder {path}", hint="check the path of the model")
    try:
        return Path(huggingface_hub.snapshot_download(name, allow_patterns=_FILES))
    except (HfHubHTTPError, LocalEntryNotFoundError, HFValidationError, OSError) as error:
        raise InputError(
            f"{name} is neither a folder nor a model that the hub gives: {type(error).__name__}",
            hint="check the path; models: a folder, starter, starter-draft, or a hub name",
        ) from error


def _read_config(path: Path, trust_remote_code: bool) -> Any:
    """Return the configuration of a causal LM, or say why it is none."""
    file = path / "config.json"
    if not file.is_file():
        raise InputError(
            f"{path} holds no config.json, so it is no model", hint="give a Hugging Face folder"
        )
    try:
        document = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise CheckpointError(
            f"{file} cannot be read: {error}", hint="download it again"
        ) from error
    if not isinstance(document, dict):
        raise CheckpointError(f"{file} holds no JSON object", hint="download it again")
    model_type, remote = str(document.get("model_type")), "auto_map" in document
    is_known = model_type in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
    if not remote and not is_known:
        raise UnsupportedModelError(
            f"{path} is of type {model_type!r}, which has no causal language model",
            hint="encoders and encoder-decoders cannot be used; give a causal LM",
        )
    if remote and not trust_remote_code and not is_known:
        raise UnsupportedModelError(
            f"{path} needs Python code that it brings along",
            hint="read that code, then pass trust_remote_code=True",
        )
    architectures = document.get("architectures") or []
    known = set(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.values())
    if not remote and architectures and not known.intersection(map(str, architectures)):
        raise UnsupportedModelError(
            f"{path} is a {', '.join(map(str, architectures))}, no causal language model",
            hint="give a checkpoint whose architectures name ends in ForCausalLM",
        )
    try:
        return AutoConfig.from_pretrained(
            path, trust_remote_code=trust_remote_code, local_files_only=True
        )
    except _READ_ERRORS as error:
        raise CheckpointError(
            f"{file} contradicts itself: {error}", hint="download it again"
        ) from error


def _check_weight_files(path: Path) -> None:
    """Refuse a folder without safetensors before anything is opened."""
    names = [file.name for file in path.iterdir()]
    if "model.safetensors" in names or "model.safetensors.index.json" in names:
        return
    pickled = sorted(n for n in names if n.endswith((".bin", ".pt", ".pth", ".ckpt")))
    if pickled:
        raise CheckpointError(
            f"{path} has its weights only as pickle ({pickled[0]}), which can run any code",
            hint="convert it with model.save_pretrained(..., safe_serialization=True)",
        )
    raise CheckpointError(f"{path} holds no model.safetensors", hint="download it again")


def _check_weight_types(path: Path, config: Any) -> None:
    """Refuse weights in 8 bits that come without a word on how they were quantised."""
    if getattr(config, "quantization_config", None) is not None:
        return
    for file in sorted(path.glob("model*.safetensors")):
        try:
            with safe_open(file, framework="pt") as tensors:
                names = [name for name in tensors.offset_keys() if name.endswith(".weight")]
                types = {name: tensors.get_slice(name).get_dtype() for name in names}
        except (SafetensorError, OSError):  # said better by whoever reads the tensors
            return
        narrow = [name for name, kind in types.items() if kind in _NARROW]
        if narrow:
            raise UnsupportedModelError(
                f"{path} is quantised ({narrow[0]} is {types[narrow[0]]}), and its config.json "
                "does not say how",
                hint="give the checkpoint without quantisation",
            )


def _read_model(path: Path, config: Any, dtype: str, trust_remote_code: bool) -> PreTrainedModel:
    """Return the model; every tensor of the file is used and every parameter comes from it."""
    try:
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            path,
            config=config,
            dtype="auto" if dtype == "auto" else getattr(torch, dtype),
            use_safetensors=True,
            local_files_only=True,
            output_loading_info=True,
            trust_remote_code=trust_remote_code,
        )
    except ImportError as error:
        raise MissingExtraError(
            f"{path} needs a package to be read: {error}",
            hint="install it, or give the checkpoint without quantisation",
        ) from error
    except _READ_ERRORS as error:
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise CheckpointError(
            f"the weights in {path} cannot be read: {reason[0]}",
            hint="the download may be incomplete or config.json of another model; fetch it again",
        ) from error
    model: PreTrainedModel
    model, info = loaded
    for problem in ("missing", "unexpected", "mismatched"):
        found = sorted(str(key) for key in info[f"{problem}_keys"])
        if found:
            raise CheckpointError(
                f"{path} has {len(found)} {problem} tensors: {', '.join(found[:5])}"
                + (", ..." if len(found) > 5 else ""),
                hint="the weights and config.json do not belong together",
            )
    return model


def _read_tokenizer(path: Path, trust_remote_code: bool) -> PreTrainedTokenizerBase | None:
    """Return the tokenizer of transformers where there is one; the vocabulary does not need it."""
    try:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
            path, trust_remote_code=trust_remote_code, local_files_only=True
        )
    except (OSError, ValueError, TypeError, KeyError, AttributeError, ImportError):
        return None
    return tokenizer
