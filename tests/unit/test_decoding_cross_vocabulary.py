"""A draft model of another vocabulary: its text in the target's tokens, and what it reads."""

import dataclasses

import pytest

from jeton.core.vocabulary import Vocabulary
from jeton.decoding.registry import DRAFTERS
from jeton.decoding.written import Written
from jeton.lm.runner import Runner
from jeton.testing.decoding import check_equals_plain, tiny_language_model, with_other_ids
from jeton.testing.models import tiny_language_model as tiny_bytes_and_merges
from jeton.testing.models import tiny_tokenizer


@pytest.mark.parametrize(
    ("data", "num_sure", "is_end", "expected"),
    [
        ("then the", 8, False, ["the", "n"]),  # the last one may still grow
        ("then the", 8, True, ["the", "n", "Ġthe", "<s>"]),
        ("then the", 3, True, ["the"]),  # the model was not sure of the rest
        ("th", 2, False, []),
    ],
)
def test_written_text_becomes_tokens_once_they_are_settled(data, num_sure, is_end, expected):
    vocabulary = Vocabulary.from_tokenizer_json(tiny_tokenizer().to_str())
    target = dataclasses.replace(vocabulary, eos_token_id=0)
    found = Written(data.encode(), num_sure, is_end=is_end).tokens(target)
    assert [tiny_tokenizer().id_to_token(i) for i in found] == expected


def test_another_vocabulary_of_the_same_law_is_always_right():
    lm = tiny_language_model("llama")
    drafter = DRAFTERS.create("cross_vocabulary", {"min_confidence": 0.0})
    other = with_other_ids(lm)
    assert other.vocabulary.tokens != lm.vocabulary.tokens
    loop = check_equals_plain(lm, [7, 8, 9], drafter, max_new_tokens=24, draft_model=other)
    assert loop.stats.num_accepted == loop.stats.num_proposed > 0
    assert loop.stats.num_steps == 5  # the prompt, three drafts of 6 and a token, and the rest


def test_a_draft_model_of_another_vocabulary_reads_only_what_is_new():
    lm, draft = tiny_language_model("llama"), with_other_ids(tiny_language_model("llama", 1))
    drafter = DRAFTERS.create("cross_vocabulary", {"min_confidence": 0.0})
    read = []
    forward = Runner.prefill

    def prefill(runner, ids, **options):
        if runner.model is draft.model:
            read.append(len(ids))
        return forward(runner, ids, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Runner, "prefill", prefill)
        check_equals_plain(lm, list(range(1, 41)), drafter, max_new_tokens=12, draft_model=draft)
    assert read[0] == 41
    assert max(read[1:]) <= 9  # a step's tokens, never the text again


def test_bytes_that_the_draft_model_cannot_express_only_cost_drafts():
    lm = tiny_bytes_and_merges("llama")  # 256 bytes, the draft model has 60
    draft = tiny_language_model("gpt2", 3)
    drafter = DRAFTERS.create("cross_vocabulary", {"min_confidence": 0.0})
    prompt = lm.vocabulary.encode(b"AB\xff the then\n AB")
    check_equals_plain(lm, prompt, drafter, max_new_tokens=16, draft_model=draft)
