"""The audit on real tokenizers."""

from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest

from jeton.audit.contexts import contexts
from jeton.audit.encoding import encode_all
from jeton.audit.evidence import AuditInput
from jeton.audit.reachability import Reach, Reachability, find_reachability
from jeton.audit.registry import METRICS
from jeton.core.vocabulary import Vocabulary, load_vocabulary

SMALL = ("kl3m-004-char-4k-cased", "mistral-v1", "sentencepiece-test-en")
LARGE = (
    "bert-base-uncased",
    "cl100k_base",
    "deepseek-coder",
    "gpt-neox-20b",
    "gpt2",
    "kl3m-001-32k",
    "o200k_base",
    "phi-3",
    "qwen2",
    "rwkv-world",
    "starcoder",
    "superbpe-olmo2-t180k",
    "t5",
)
NAMES = [*SMALL, *(pytest.param(name, marks=pytest.mark.slow) for name in LARGE)]


@lru_cache(maxsize=4)
def reachability(path: Path) -> tuple[Vocabulary, Reachability]:
    vocabulary = load_vocabulary(path)
    return vocabulary, find_reachability(vocabulary)


def corpus(shared_data: Path) -> list[str]:
    files = [
        *sorted((shared_data / "udhr" / "articles").iterdir()),
        shared_data / "corpora" / "en" / "tinyshakespeare.txt",
        shared_data / "code" / "HumanEval.jsonl",
    ]
    return [path.read_text(encoding="utf-8")[:100_000] for path in files]


@pytest.mark.parametrize("name", NAMES)
def test_no_token_called_dead_comes_out_of_any_text(shared_data: Path, name: str) -> None:
    vocabulary, found = reachability(shared_data / "tokenizers" / name)
    claimed = np.zeros(vocabulary.vocab_size, dtype=bool)
    for state in (Reach.DEAD, Reach.SHADOWED, Reach.BYTES_ONLY):
        claimed[found.ids(state)] = True
    sample = np.flatnonzero(claimed)[:: max(1, int(claimed.sum()) // 1000)]
    texts = corpus(shared_data)
    for token_id in sample.tolist():
        if vocabulary.tokens[token_id]:
            rounds = (0, 1, 2, 3, 5, 9, 24, 30)
            texts += [t for i in rounds for t in contexts(vocabulary.tokens[token_id], i)]
    seen = np.unique(np.concatenate(encode_all(vocabulary, texts)))
    assert not claimed[seen].any(), [vocabulary.tokens[i] for i in seen[claimed[seen]]]


@pytest.mark.parametrize("name", NAMES)
def test_witness_contains_its_token(shared_data: Path, name: str) -> None:
    vocabulary, found = reachability(shared_data / "tokenizers" / name)
    ids = found.ids(Reach.REACHABLE)
    for token_id in ids[:: max(1, len(ids) // 100)]:
        witness = found.witness_of(token_id)
        assert witness is not None
        assert token_id in vocabulary.encode_lossy(witness)


def test_known_defects_of_real_tokenizers_are_found(shared_data: Path) -> None:
    _, found = reachability(shared_data / "tokenizers" / "kl3m-004-char-4k-cased")
    assert found.count(Reach.SHADOWED) == 10  # runs of spaces and newlines are added tokens
    mistral, found = reachability(shared_data / "tokenizers" / "mistral-v1")
    # fallback bytes of characters that are tokens, and three pieces without a way to build them
    dead = [mistral.tokens[i] for i in found.ids(Reach.DEAD)]
    assert b"A" in dead
    assert len(dead) >= 125
    assert METRICS.create("duplicates").measure(AuditInput(mistral)).value == 125


def test_redundant_merges_of_the_llama_2_vocabulary(shared_data: Path) -> None:
    vocabulary = load_vocabulary(shared_data / "tokenizers" / "phi-3")
    result = METRICS.create("redundant_merges").measure(AuditInput(vocabulary))
    assert result.value == 31_637  # as Hayase et al. 2024 found by other means
    assert "of 61,249" in result.detail


def test_digit_rules_of_real_tokenizers(shared_data: Path) -> None:
    rules = {
        "mistral-v1": "single digits",
        "gpt2": "learned pieces",
    }
    for name, rule in rules.items():
        vocabulary = load_vocabulary(shared_data / "tokenizers" / name)
        assert METRICS.create("digits").measure(AuditInput(vocabulary)).detail.startswith(rule)
