"""Says in words why the ids of a text do not decode to it."""

from typing import TYPE_CHECKING

from jeton.core.formats.source import ModelKind, StartRule

if TYPE_CHECKING:
    from jeton.core.vocabulary import Vocabulary


def hides_first_space(start_rule: StartRule, text: str) -> bool:
    """Tell whether the start rule gives a text and the same text without its first space alike."""
    rules = (StartRule.DUMMY_SPACE_FIRST, StartRule.DUMMY_SPACE_UNLESS_SPACE)
    return start_rule in rules and text[:1] == " "


def explain_loss(vocabulary: "Vocabulary", text: str, ids: list[int]) -> str:
    """Return why the ids of a text do not decode to it; more than one reason may apply."""
    reasons = []
    changed_by = vocabulary.source.normalizer_that_changes(text)
    if changed_by is not None:
        reasons.append(f"the normalizer ({changed_by}) changes the text")
    if vocabulary.unk_token_id is not None and vocabulary.unk_token_id in ids:
        unknown = _first_unknown(vocabulary, text)
        reasons.append(f"the vocabulary has no token for {unknown}, so it becomes unknown")
    contents = {token_id: content for content, token_id in vocabulary.added_tokens.items()}
    tokens = vocabulary.tokens
    altered = (i for i in ids if i in contents and contents[i].encode() != tokens[i])
    if (token_id := next(altered, None)) is not None:
        reasons.append(
            f"added token {contents[token_id]!r} (id {token_id}) decodes to {tokens[token_id]!r}"
        )
    if hides_first_space(vocabulary.start_rule, text):
        reasons.append(f"the start rule ({vocabulary.start_rule.value}) hides the first space")
    if "▁" in text and vocabulary.model_kind in (ModelKind.SENTENCEPIECE_BPE, ModelKind.UNIGRAM):
        reasons.append("the tokenizer writes spaces as '▁' (U+2581), which the text contains")
    if not reasons and (taken := next((i for i in ids if i in contents), None)) is not None:
        reasons.append(f"added token {contents[taken]!r} (id {taken}) changes what is beside it")
    if vocabulary.start_rule is StartRule.WORD_SPACE:
        reasons.append("the tokenizer keeps words, not the white space between them")
    return "; ".join(reasons) or "the pre-tokenizer drops or changes characters"


def _first_unknown(vocabulary: "Vocabulary", text: str) -> str:
    characters = list(dict.fromkeys(text))
    encoded = vocabulary.source.encode_batch(characters)
    for character, ids in zip(characters, encoded, strict=True):
        if vocabulary.unk_token_id in ids:
            return repr(character)
    return "a part of it"
