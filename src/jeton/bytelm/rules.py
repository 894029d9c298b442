"""The rule of canonical sequences that belongs to a tokenizer."""

import warnings

from jeton.bytelm.bpe_rule import BpeRule
from jeton.bytelm.contract import Rule
from jeton.bytelm.longest_match import LongestMatchRule
from jeton.bytelm.pattern import UnknownPattern
from jeton.bytelm.probing import ProbingRule
from jeton.bytelm.unigram import UnigramRule
from jeton.core.vocabulary import ModelKind, Vocabulary

_BPE = (ModelKind.BYTE_LEVEL_BPE, ModelKind.SENTENCEPIECE_BPE, ModelKind.CHARACTER_BPE)


def canonical_rule(vocabulary: Vocabulary) -> Rule:
    """Return the rule that tells which sequences of tokens a tokenizer writes.

    Tokenizers that no exact rule knows are probed, with a warning: that is slow.

    Example:
        >>> import numpy as np
        >>> from jeton.testing.bytelm import toy_vocabulary
        >>> rule = canonical_rule(toy_vocabulary(["a", "b", "ab"], [("a", "b")]))
        >>> mask, may_end = rule.mask(rule.step(rule.start(), 0))  # behind "a"
        >>> np.unpackbits(mask)[:3], may_end
        (array([1, 0, 1], dtype=uint8), True)
    """
    kind = vocabulary.model_kind
    try:
        if kind in _BPE and len(vocabulary.merges):
            return BpeRule(vocabulary)
        if kind is ModelKind.UNIGRAM and vocabulary.tokenizer_json is not None:
            return UnigramRule(vocabulary)
    except UnknownPattern as reason:
        why = f"its pre-tokenizer has {reason}"
    else:
        if kind is ModelKind.LONGEST_MATCH:
            return LongestMatchRule(vocabulary)
        why = f"it is of kind {kind.value}"
    warnings.warn(
        f"no exact rule knows {vocabulary.name}: {why}; the tokenizer is asked about every token, "
        "which is slow: measure 'all' needs no rule",
        stacklevel=2,
    )
    return ProbingRule(vocabulary)
