"""The `tokenizers` library as the encoding engine of a tokenizer.json."""

import json
import re
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from jeton.core.formats.pipeline import describe_step, is_space_mapping
from jeton.core.formats.source import NO_MERGES, Source
from jeton.errors import TokenizerError

T = TypeVar("T")

_MARK = "\ufdd0"  # a noncharacter: not for interchange, so hardly ever in a text


def call_engine(function: Callable[..., T], *args: Any, name: str, **kwargs: Any) -> T:
    """Call the Rust library and turn what it raises into a TokenizerError.

    Raises:
        TokenizerError: the library refused, or panicked on, a damaged file.
    """
    try:
        return function(*args, **kwargs)
    except BaseException as error:  # the library raises bare Exception; panics are BaseException
        is_refusal = type(error) is Exception or isinstance(error, (ValueError, TypeError))
        if not is_refusal and type(error).__name__ != "PanicException":
            raise
        raise TokenizerError(
            f"{name}: the tokenizers library refuses this file: {str(error)[:300]}",
            hint="the file is damaged, or of a newer format than the installed tokenizers",
        ) from error


class HuggingFaceSource(Source):
    """Encodes text as plain text: special tokens written in the text are not special.

    Special tokens leave the engine: they are dropped from its added tokens, and where the model
    knows them they get a name that no text contains. Truncation, padding, post-processing and
    dropout are switched off. Added tokens keep the ids that the file declares.
    """

    def __init__(
        self,
        raw: bytes,
        *,
        name: str,
        special_tokens: dict[str, int],
        normalizers: list[dict[str, Any]],
        pre_tokenizer: dict[str, Any] | None,
        ignore_merges: bool,
    ) -> None:
        self._raw = raw  # bytes take a half or a quarter of the memory of str
        self.pre_tokenizer = pre_tokenizer
        self.ignore_merges = ignore_merges
        self._name = name
        self._special = special_tokens
        self._normalizers = [step for step in normalizers if not is_space_mapping(step)]
        self._new_ids: dict[int, int] = {}

    @property
    def tokenizer_json(self) -> str:
        """Content of the tokenizer.json."""
        return self._raw.decode()

    @cached_property
    def _engine(self) -> Tokenizer:
        return self._build(is_start=True)

    @cached_property
    def _inner_engine(self) -> Tokenizer:
        return self._build(is_start=False)

    @cached_property
    def _steps(self) -> list[tuple[str, Tokenizer]]:
        model = {"type": "BPE", "vocab": {}, "merges": []}
        built = []
        for step in self._normalizers:
            document = json.dumps({"version": "1.0", "normalizer": step, "model": model})
            tokenizer = call_engine(Tokenizer.from_str, document, name=self._name)
            built.append((describe_step(step), tokenizer))
        return built

    def encode(self, text: str, *, is_start: bool = True) -> list[int]:
        """Return the ids of a text; without its start rule where `is_start` is false."""
        if _MARK in text:  # cut, so that no text holds the whole name of a hidden special token
            parts = re.split(f"(?<={_MARK})", text)
            encoded = [self._encode(part, is_start and i == 0) for i, part in enumerate(parts)]
            return [token_id for ids in encoded for token_id in ids]
        return self._encode(text, is_start)

    def _encode(self, text: str, is_start: bool) -> list[int]:
        engine = self._engine if is_start else self._inner_engine
        encoding = call_engine(engine.encode, text, add_special_tokens=False, name=self._name)
        return self._rename(encoding.ids)

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the ids of many texts, on all threads."""
        if any(_MARK in text for text in texts):
            return [self.encode(text) for text in texts]
        encodings = call_engine(
            self._engine.encode_batch_fast, texts, add_special_tokens=False, name=self._name
        )
        return [self._rename(encoding.ids) for encoding in encodings]

    def _rename(self, ids: list[int]) -> list[int]:
        return [self._new_ids.get(i, i) for i in ids] if self._new_ids else ids

    def normalizer_that_changes(self, text: str) -> str | None:
        """Return the name of the first normalizer that alters the text."""
        for words, tokenizer in self._steps:
            normalizer = tokenizer.normalizer
            if call_engine(normalizer.normalize_str, text, name=self._name) != text:
                return words
        return None

    def merges(self) -> npt.NDArray[np.int64]:
        """Return left id, right id and result id of each merge, in order of rank."""
        model = json.loads(self._raw)["model"]
        if not model.get("merges") or isinstance(model["vocab"], list):
            return NO_MERGES
        vocab = model["vocab"]
        skip = len(model.get("continuing_subword_prefix") or "")
        pairs = (m.split(" ") if isinstance(m, str) else m for m in model["merges"])
        return np.array([(vocab[a], vocab[b], vocab[a + b[skip:]]) for a, b in pairs], np.int64)

    def _build(self, *, is_start: bool) -> Tokenizer:
        document = json.loads(self._raw)
        for part in ("truncation", "padding", "post_processor", "decoder"):
            document[part] = None
        added = [
            token
            for token in document.get("added_tokens") or []
            if token["content"] not in self._special
        ]
        document["added_tokens"] = added
        model = document["model"]
        if isinstance(model["vocab"], list):
            for token_id in self._special.values():
                if token_id < len(model["vocab"]):
                    model["vocab"][token_id][0] = _unwritable(token_id)
        else:
            self._hide_special(model)
            # tokens in the model's vocabulary keep their ids; others would be numbered anew
            model["vocab"].update({token["content"]: token["id"] for token in added})
        if not is_start:
            _drop_start_rule(document)
        text = json.dumps(document, ensure_ascii=False)
        engine = call_engine(Tokenizer.from_str, text, name=self._name)
        for token in added:
            found = engine.token_to_id(token["content"])
            if found is not None and found != token["id"]:
                self._new_ids[found] = token["id"]
        return engine

    def _hide_special(self, model: dict[str, Any]) -> None:
        """Rename special tokens in the model and drop the merges that would build them."""
        vocab = model["vocab"]
        hidden = {content for content in self._special if content in vocab}
        for content in hidden:
            token_id = vocab.pop(content)
            vocab[_unwritable(token_id)] = token_id
            if model.get("unk_token") == content:
                model["unk_token"] = _unwritable(token_id)
        if "merges" not in model:
            return
        model["dropout"] = None
        if hidden:
            skip = len(model.get("continuing_subword_prefix") or "")
            pairs = [m.split(" ") if isinstance(m, str) else m for m in model["merges"]]
            model["merges"] = [
                [a, b]
                for a, b in pairs
                if a not in hidden and b not in hidden and a + b[skip:] not in hidden
            ]


def _unwritable(token_id: int) -> str:
    """Return a name for a hidden special token; `encode` cuts texts that could hold it."""
    return f"{_MARK}{token_id}{_MARK}"


def _drop_start_rule(document: dict[str, Any]) -> None:
    """Switch off everything that puts a space before a text."""

    def visit(part: dict[str, Any] | None, children: str) -> dict[str, Any] | None:
        if part is None or part["type"] == "Prepend":
            return None
        if part["type"] == "Metaspace":
            kept = {k: v for k, v in part.items() if k != "add_prefix_space"}
            return {**kept, "prepend_scheme": "never"}
        if part["type"] == "ByteLevel":
            return {**part, "add_prefix_space": False}
        if part["type"] == "Sequence":
            inner = [new for one in part[children] if (new := visit(one, children)) is not None]
            return {**part, children: inner}
        return part

    for key, children in (("normalizer", "normalizers"), ("pre_tokenizer", "pretokenizers")):
        document[key] = visit(document.get(key), children)
