"""Prompts cut inside tokens: the three ways on a tiny model, and the page."""

import numpy as np
import pytest

from jeton.bytelm.byte_lm import ByteLM
from jeton.bytelm.cut_bits import measure_cuts
from jeton.errors import ConfigError
from jeton.report.bytelm_page import bias_page
from jeton.testing.models import tiny_language_model

TEXT = b"then the thing in the rein and the attention on a train"


def test_the_three_ways():
    lm = tiny_language_model()
    found = measure_cuts(lm, TEXT, num_cuts=6)
    assert found.cuts == sorted(set(found.cuts)) and len(found.cuts) == 6
    for cut, bits in zip(found.cuts, found.exact, strict=True):
        right = ByteLM(lm).state(TEXT[:cut]).next_logprobs()[TEXT[cut]] / np.log(2)
        assert bits == pytest.approx(-right, abs=1e-6)
    assert all(0 <= bits <= 40 for way in found.ways().values() for bits in way)
    assert found.naive != found.exact


def test_healing_is_naive_where_the_last_token_cannot_grow():
    """No token of the tiny vocabulary begins with "z" save the byte."""
    found = measure_cuts(tiny_language_model(), b"z" * 12, num_cuts=3)
    assert found.healing == pytest.approx(found.naive, abs=1e-6)


def test_the_page_and_bad_input():
    assert "1.00 less than naive" in bias_page(
        "m", [3, 9], {"naive": [2.0, 3.0], "exact": [1.0, 2.0]}
    )
    for data, cuts in ((TEXT, 0), (b"short", 4)):
        with pytest.raises(ConfigError, match="cuts of"):
            measure_cuts(tiny_language_model(), data, num_cuts=cuts)
