"""The byte-level answers to lm-evaluation-harness, and prompts that end in a token."""

import math
import sys
from dataclasses import dataclass

import pytest
import torch

from jeton.adapters.lm_eval import ByteRequests, byte_level
from jeton.adapters.transformers import exact_prompt
from jeton.bytelm.byte_lm import ByteLM
from jeton.bytelm.score import score
from jeton.errors import MissingExtraError
from jeton.testing.models import tiny_language_model


@dataclass
class Request:
    args: tuple


def test_choices_do_not_hang_on_the_trailing_space() -> None:
    requests = ByteRequests(ByteLM(tiny_language_model()), max_bytes=8)
    whole = score(requests.byte_lm, b"def f(x): return").logprob
    for context, choice in (("def f(x):", " return"), ("def f(x): ", "return")):
        found, is_greedy = requests.loglikelihood([Request((context, choice))])[0]
        before = score(requests.byte_lm, context).logprob
        assert math.isclose(found + before, whole, abs_tol=1e-4)
        assert not is_greedy
    assert math.isclose(
        requests.loglikelihood_rolling([Request(("def f(x): return",))])[0], whole, abs_tol=1e-6
    )
    assert len(requests.generate_until([Request(("def", {"until": ["z"]}))])[0].encode()) <= 24


def test_missing_harness_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lm_eval", None)  # as if it were not installed
    with pytest.raises(MissingExtraError, match="lm-evaluation-harness"):
        byte_level(tiny_language_model())


def test_generate_of_transformers_covers_the_prompt_anew() -> None:
    lm = tiny_language_model()
    prompt = b"def f(x):\n    retu"
    ids = torch.tensor([[0, *lm.vocabulary.encode(prompt)]])
    found = lm.model.generate(
        ids,
        custom_generate=exact_prompt(lm.vocabulary),
        max_new_tokens=6,
        do_sample=False,
        pad_token_id=0,
        eos_token_id=[],
    )[0].tolist()
    assert found[0] == 0
    assert lm.vocabulary.decode([i for i in found if i]).startswith(prompt)
