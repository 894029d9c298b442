"""Golden figures: tiny tokenizers whose numbers can be worked out by hand."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer, pre_tokenizers

from jeton.audit.evidence import AuditInput, Embeddings, Lexicon
from jeton.audit.registry import METRICS
from jeton.core.vocabulary import Vocabulary

GOLDEN = Path(__file__).resolve().parent.parent / "golden" / "audit"
FILES = sorted(GOLDEN.glob("*.json"))


def byte_level(spec: dict[str, Any]) -> Vocabulary:
    """Build a byte-level BPE of the 256 bytes and the merges of a golden file."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {char: i for i, char in enumerate(alphabet)}
    merges = [merge.split(" ") for merge in spec.get("merges", [])]
    for left, right in merges:
        vocab.setdefault(left + right, len(vocab))
    for token in spec.get("extra_tokens", []):
        vocab.setdefault(token, len(vocab))
    added = [
        {
            "id": len(vocab) + i,
            "content": content,
            "special": content.startswith("<"),
            "single_word": False,
            "lstrip": False,
            "rstrip": False,
            "normalized": False,
        }
        for i, content in enumerate(spec.get("added", []))
    ]
    byte_level_step = {
        "type": "ByteLevel",
        "add_prefix_space": False,
        "trim_offsets": True,
        "use_regex": spec.get("use_regex", True),
    }
    document = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": None,
        "pre_tokenizer": byte_level_step,
        "post_processor": None,
        "decoder": byte_level_step,
        "model": {"type": "BPE", "vocab": vocab, "merges": merges},
    }
    Tokenizer.from_str(json.dumps(document))  # the library accepts it
    return Vocabulary.from_tokenizer_json(document, name="golden")


def read_input(spec: dict[str, Any]) -> AuditInput:
    lexicon = spec.get("lexicon")
    embeddings = spec.get("embeddings")
    vocabulary = byte_level(spec)
    return AuditInput(
        vocabulary,
        spec.get("texts", {}),
        is_parallel=spec.get("is_parallel", False),
        lexicon=Lexicon(frozenset(lexicon["words"]), frozenset(lexicon["morphemes"]))
        if lexicon
        else None,
        embeddings=Embeddings(rows_of(embeddings, vocabulary)) if embeddings else None,
        segmentation=spec.get("segmentation"),
    )


def rows_of(spec: Any, vocabulary: Vocabulary) -> np.ndarray:
    """Return all rows as they stand, or one row for every token with exceptions and padding."""
    if isinstance(spec, list):
        return np.array(spec, dtype=np.float64)
    rows = [spec["every"]] * vocabulary.vocab_size
    for token, row in spec["of"].items():
        rows[vocabulary.tokens.index(token.encode("latin-1"))] = row
    return np.array(rows + spec["padding"], dtype=np.float64)


@pytest.mark.parametrize("path", FILES, ids=[path.stem for path in FILES])
def test_figure_is_as_worked_out(path: Path) -> None:
    spec = json.loads(path.read_text(encoding="utf-8"))
    assert spec["source"]
    result = METRICS.create(path.stem, spec.get("options")).measure(read_input(spec))
    expected = spec["expected"]
    if "value" in expected:
        assert result.value == pytest.approx(expected["value"], abs=1e-9)
    for group, value in expected.get("groups", {}).items():
        assert result.groups[group] == pytest.approx(value, abs=1e-9), group
    for words in expected.get("detail", []):
        assert words in result.detail
    if "witnesses" in expected:
        assert [w.token for w in result.witnesses] == expected["witnesses"]


def test_every_golden_file_belongs_to_a_metric() -> None:
    assert {path.stem for path in FILES} <= set(METRICS.rows)
    named = {row.evidence for row in METRICS.rows.values() if row.evidence.endswith(".json")}
    assert named <= {f"tests/golden/audit/{path.name}" for path in FILES}
