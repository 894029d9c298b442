"""`generate(custom_generate=...)` gives what transformers gives."""

import pytest
import torch

from jeton.adapters.transformers import speculative
from jeton.decoding.create import create_drafter
from jeton.errors import ConfigError, UnsupportedModelError
from jeton.testing.models import tiny_model

IDS = torch.tensor([[5, 9, 5, 7, 5, 9, 5]])
GREEDY = {"max_new_tokens": 24, "do_sample": False, "pad_token_id": 0, "eos_token_id": None}


@pytest.mark.parametrize("drafter", [None, "prompt_lookup", "token_recycling+lookahead"])
@pytest.mark.parametrize("family", ["llama", "mistral"])
def test_greedy_equals_generate(family, drafter):
    model = tiny_model(family)
    for extra in ({}, {"repetition_penalty": 1.3}, {"no_repeat_ngram_size": 2}):
        plain = model.generate(IDS, **GREEDY, **extra)
        fast = model.generate(IDS, **GREEDY, **extra, custom_generate=speculative(drafter))
        assert fast.tolist() == plain.tolist()


def test_a_draft_model_equals_generate():
    model, draft = tiny_model("llama"), tiny_model("llama", 1)
    plain = model.generate(IDS, **GREEDY)
    fast = model.generate(IDS, **GREEDY, custom_generate=speculative("dyspec", draft_model=draft))
    assert fast.tolist() == plain.tolist()


def test_stops_where_generate_stops():
    model = tiny_model("llama")
    options = {**GREEDY, "eos_token_id": int(model.generate(IDS, **GREEDY)[0, 11])}
    plain = model.generate(IDS, **options)
    assert plain.shape[1] < 31
    fast = model.generate(IDS, **options, custom_generate=speculative("lookahead"))
    assert fast.tolist() == plain.tolist()


def test_sampling_depends_on_the_seed_alone():
    model = tiny_model("llama")
    options = {**GREEDY, "do_sample": True, "temperature": 0.8, "top_k": 20, "top_p": 0.9}
    texts = [
        model.generate(IDS, **options, custom_generate=speculative(d, seed=s)).tolist()
        for d, s in ((None, 1), ("lookahead", 1), (None, 2))
    ]
    assert texts[0] == texts[1] != texts[2]
    torch.manual_seed(3)
    first = model.generate(IDS, **options, custom_generate=speculative())
    torch.manual_seed(3)
    again = model.generate(IDS, **options, custom_generate=speculative("aded"))
    assert first.tolist() == again.tolist()


BATCH = torch.tensor(
    [[0, 0, 5, 9, 5, 7], [3, 8, 8, 1, 3, 8], [0, 0, 0, 0, 0, 6], [0, 2, 4, 2, 4, 2]]
)
MASK = torch.tensor([[0, 0, 1, 1, 1, 1], [1] * 6, [0] * 5 + [1], [0] + [1] * 5])


@pytest.mark.parametrize("drafter", [None, "prompt_lookup", "token_recycling+lookahead"])
@pytest.mark.parametrize("family", ["llama", "gpt2", "mistral"])
def test_a_padded_batch_equals_generate(family, drafter):
    model = tiny_model(family)
    plain = model.generate(BATCH, attention_mask=MASK, **GREEDY)
    options = {**GREEDY, "eos_token_id": int(plain[1, 12])}  # ends texts at different lengths
    for chosen in (GREEDY, options):
        plain = model.generate(BATCH, attention_mask=MASK, **chosen)
        fast = model.generate(
            BATCH, attention_mask=MASK, **chosen, custom_generate=speculative(drafter)
        )
        assert fast.tolist() == plain.tolist()


def test_sampled_texts_of_a_batch_are_those_of_single_calls():
    model = tiny_model("llama")
    options = {**GREEDY, "do_sample": True, "temperature": 0.9, "top_k": 30}
    batch = model.generate(
        BATCH, attention_mask=MASK, **options, custom_generate=speculative("lookahead", seed=4)
    )
    for row, start in enumerate([2, 0, 5, 1]):
        alone = model.generate(
            BATCH[row : row + 1, start:], **options, custom_generate=speculative(seed=4 + row)
        )
        assert batch[row, start:].tolist()[: alone.shape[1]] == alone[0].tolist()


def test_what_it_cannot_do_is_refused():
    model = tiny_model("llama")
    run = speculative()
    mask = torch.ones_like(IDS)
    mask[0, 3] = 0
    with pytest.raises(UnsupportedModelError, match="in its midst"):
        model.generate(IDS, attention_mask=mask, **GREEDY, custom_generate=run)
    shared = speculative(create_drafter("prompt_lookup"))
    with pytest.raises(ConfigError, match="cannot serve 2 texts"):
        model.generate(torch.cat([IDS, IDS]), **GREEDY, custom_generate=shared)
    with pytest.raises(ConfigError, match="return_dict"):
        model.generate(IDS, **GREEDY, return_dict_in_generate=True, custom_generate=run)
