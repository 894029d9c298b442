"""Reads tokenizer.json, the format of the `tokenizers` library.

Facts (bytes, kinds, rules) are read from the JSON; the library itself is the encoding engine and
is started only when something is encoded.
"""

import codecs
import json
from collections.abc import Mapping
from typing import Any, TypeGuard

import numpy as np
import numpy.typing as npt

from jeton.core.encode import BYTE_ALPHABET
from jeton.core.formats.engine import HuggingFaceSource
from jeton.core.formats.patterns import check_patterns
from jeton.core.formats.pipeline import (
    BYTE_FALLBACK,
    TokenDecoder,
    describe_normalizer,
    find_start_rule,
    flatten,
)
from jeton.core.formats.source import (
    ModelKind,
    Parts,
    TokenKind,
    check_holes,
    check_id,
    place_by_id,
)
from jeton.errors import TokenizerError

_MODEL_KEYS = {"WordPiece": ModelKind.WORDPIECE, "WordLevel": ModelKind.WORD_LEVEL}
_DAMAGED = "the file is damaged; fetch it again"


def read_tokenizer_json(
    content: str | bytes | Mapping[str, Any], name: str, special_names: frozenset[str] = frozenset()
) -> Parts:
    """Return the parts of a vocabulary.

    Args:
        content: The file's content, or the parsed object.
        name: Name of the vocabulary, for messages.
        special_names: Contents that are special though the file does not say so.
    Raises:
        TokenizerError: the content is not a tokenizer.json, is cut off, or contradicts itself.
    """
    raw, document = _parse(content, name)
    model = document.get("model")
    if not isinstance(model, dict):
        raise TokenizerError(f'{name}: tokenizer.json needs an object "model"', hint=_DAMAGED)
    normalizers = flatten(document.get("normalizer"), "normalizers", f"{name}: normalizer")
    pre_tokenizers = flatten(
        document.get("pre_tokenizer"), "pretokenizers", f"{name}: pre_tokenizer"
    )
    check_patterns([*normalizers, *pre_tokenizers], name)
    decoders = flatten(document.get("decoder"), "decoders", f"{name}: decoder")
    decoder = TokenDecoder(decoders, [*normalizers, *pre_tokenizers])
    contents, unk_token = _read_model(model, name)
    added = _read_added_tokens(document.get("added_tokens"), name)
    special = _place_added(contents, added, special_names, unk_token, name)
    added_tokens = {
        token["content"]: token["id"] for token in added if token["content"] not in special
    }
    tokens, kinds = _read_tokens(contents, decoder, special, added_tokens)
    source = HuggingFaceSource(
        raw,
        name=name,
        special_tokens=special,
        normalizers=normalizers,
        pre_tokenizer=document.get("pre_tokenizer"),
        ignore_merges=model.get("ignore_merges") is True,
    )
    return Parts(
        name=name,
        tokens=tokens,
        kinds=kinds,
        special_tokens=special,
        added_tokens=added_tokens,
        model_kind=_model_kind(model, decoder, pre_tokenizers),
        start_rule=find_start_rule(normalizers, pre_tokenizers, decoder.joins_words),
        normalizer=describe_normalizer(normalizers),
        unk_token_id=special.get(unk_token) if unk_token is not None else None,
        source=source,
    )


def _parse(content: str | bytes | Mapping[str, Any], name: str) -> tuple[bytes, dict[str, Any]]:
    """Return the JSON in UTF-8, and the object."""
    try:
        if isinstance(content, Mapping):
            raw = json.dumps(content, ensure_ascii=False).encode()
        else:
            raw = content.encode() if isinstance(content, str) else content
        raw = raw.removeprefix(codecs.BOM_UTF8)
        document = json.loads(raw.decode())
    except RecursionError as error:
        raise TokenizerError(f"{name}: the JSON nests too deep", hint=_DAMAGED) from error
    except (ValueError, TypeError) as error:
        raise TokenizerError(f"{name} is not whole JSON: {error}", hint=_DAMAGED) from error
    if not isinstance(document, dict):
        raise TokenizerError(
            f"{name}: tokenizer.json must be an object, found a {type(document).__name__}",
            hint="give the tokenizer.json that `tokenizer.save(path)` writes",
        )
    return raw, document


def _read_model(model: dict[str, Any], name: str) -> tuple[list[str | None], str | None]:
    """Return the contents by id, and the content of the unknown token."""
    where = f"{name}: model.vocab"
    vocab = model.get("vocab")
    if isinstance(vocab, list):
        contents: list[str | None] = []
        for row in vocab:
            if not (
                isinstance(row, list)
                and len(row) == 2
                and isinstance(row[0], str)
                and type(row[1]) in (int, float)
            ):
                raise TokenizerError(f"{where}: row {len(contents)} must be [piece, score]")
            contents.append(row[0])
        check_id(len(contents), "the last", where)
        unk_id = model.get("unk_id")
        if unk_id is None:
            return contents, None
        if check_id(unk_id, "unknown", f"{name}: model.unk_id") >= len(contents):
            raise TokenizerError(f"{name}: model.unk_id {unk_id} is outside the vocabulary")
        return contents, contents[unk_id]
    if not isinstance(vocab, dict):
        raise TokenizerError(
            f"{where} must be an object of ids, or a list for Unigram; "
            f"found {type(vocab).__name__}",
            hint=_DAMAGED,
        )
    if model.get("type") == "Unigram":
        raise TokenizerError(f"{where} of a Unigram model must be a list of [piece, score]")
    _check_merges(model, vocab, name)
    unk_token = model.get("unk_token")
    if unk_token is not None and not isinstance(unk_token, str):
        raise TokenizerError(f"{name}: model.unk_token must be a string")
    return place_by_id(vocab, where), unk_token if unk_token in vocab else None


def _check_merges(model: dict[str, Any], vocab: dict[str, int], name: str) -> None:
    """Refuse merges of tokens that do not exist."""
    merges = model.get("merges")
    if merges is None and model.get("type") != "BPE":
        return
    if not isinstance(merges, list):
        raise TokenizerError(f"{name}: model.merges must be a list", hint=_DAMAGED)
    prefix = model.get("continuing_subword_prefix") or ""
    if not isinstance(prefix, str):
        raise TokenizerError(f"{name}: model.continuing_subword_prefix must be a string")
    skip = len(prefix)
    for rank, merge in enumerate(merges):
        pair = merge.split(" ") if isinstance(merge, str) else merge
        if not is_pair(pair):
            raise TokenizerError(
                f"{name}: merge {rank} is {ascii(merge)[:60]}; it must be two tokens",
                hint=_DAMAGED,
            )
        left, right = pair
        if left not in vocab or right not in vocab or left + right[skip:] not in vocab:
            raise TokenizerError(
                f"{name}: merge {rank} ({ascii(left)[:40]} + {ascii(right)[:40]}) names a token "
                "that the vocabulary lacks",
                hint=_DAMAGED,
            )


def is_pair(value: object) -> TypeGuard[list[str]]:
    """Tell whether a value is a list of two strings."""
    return (
        isinstance(value, list)
        and len(value) == 2
        and isinstance(value[0], str)
        and isinstance(value[1], str)
    )


def _read_added_tokens(rows: object, name: str) -> list[dict[str, Any]]:
    """Return the checked rows of `added_tokens`."""
    if rows is None:
        return []
    if not isinstance(rows, list):
        raise TokenizerError(f"{name}: added_tokens must be a list, found {type(rows).__name__}")
    for row in rows:
        if not isinstance(row, dict) or not isinstance(row.get("content"), str):
            raise TokenizerError(f'{name}: an added token must be an object with a "content"')
        check_id(row.get("id"), row["content"], f"{name}: added_tokens")
    return rows


def _place_added(
    contents: list[str | None],
    added: list[dict[str, Any]],
    special_names: frozenset[str],
    unk_token: str | None,
    name: str,
) -> dict[str, int]:
    """Write the added tokens into `contents` and return the special ones."""
    num_tokens = len(contents) + len(added)
    max_id = max((token["id"] for token in added), default=-1)
    check_holes(max_id, num_tokens, f"{name}: added_tokens")
    contents.extend([None] * (max_id + 1 - len(contents)))
    special: dict[str, int] = {}
    for token in added:
        content, token_id = token["content"], token["id"]
        if contents[token_id] not in (None, content):
            raise TokenizerError(
                f"{name}: added token {content!a} has id {token_id}, "
                f"which belongs to {contents[token_id]!a}"
            )
        contents[token_id] = content
        if token.get("special") is True or content in special_names or content == unk_token:
            special[content] = token_id
    missing = {*special_names, unk_token} - special.keys() - {None}
    for token_id, found in enumerate(contents):
        if found in missing:
            special.setdefault(found, token_id)  # type: ignore[arg-type]
    return dict(sorted(special.items(), key=lambda item: item[1]))


def _read_tokens(
    contents: list[str | None],
    decoder: TokenDecoder,
    special: dict[str, int],
    added_tokens: dict[str, int],
) -> tuple[list[bytes], npt.NDArray[np.uint8]]:
    """Return bytes and kind of each id."""
    tokens = [b"" if content is None else decoder(content) for content in contents]
    kinds = np.full(len(tokens), TokenKind.TEXT, dtype=np.uint8)
    if decoder.is_byte_level:
        alphabet = frozenset(BYTE_ALPHABET)
        kinds[[i for i, content in enumerate(contents) if content in alphabet]] = TokenKind.BYTE
    elif decoder.has_byte_fallback:
        for token_id, content in enumerate(contents):
            if content is not None and BYTE_FALLBACK.fullmatch(content):
                kinds[token_id] = TokenKind.BYTE
    kinds[list(added_tokens.values())] = TokenKind.ADDED
    kinds[[i for i, content in enumerate(contents) if content is None]] = TokenKind.UNUSED
    for token_id in special.values():
        kinds[token_id] = TokenKind.SPECIAL
        tokens[token_id] = b""
    return tokens, kinds


def _model_kind(
    model: dict[str, Any], decoder: TokenDecoder, pre_tokenizers: list[dict[str, Any]]
) -> ModelKind:
    if isinstance(model.get("vocab"), list):
        return ModelKind.UNIGRAM
    if (kind := _MODEL_KEYS.get(str(model.get("type")))) is not None:
        return kind
    if "merges" not in model:  # old files have no type; the library tells them apart like this
        is_word_piece = "max_input_chars_per_word" in model
        return ModelKind.WORDPIECE if is_word_piece else ModelKind.WORD_LEVEL
    if decoder.is_byte_level:
        return ModelKind.BYTE_LEVEL_BPE
    if decoder.has_byte_fallback or any(step["type"] == "Metaspace" for step in pre_tokenizers):
        return ModelKind.SENTENCEPIECE_BPE
    return ModelKind.CHARACTER_BPE
