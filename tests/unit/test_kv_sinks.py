"""A planted sink is found: its head, its drained values, its peak; bad input is refused."""

import pytest
import torch

from jeton.errors import ConfigError, UnsupportedModelError
from jeton.kv.sinks import measure_sinks
from jeton.report.html import render_html
from jeton.report.sinks_page import sinks_document
from jeton.testing.models import tiny_model


@pytest.fixture(scope="module")
def planted():
    """A Llama whose head 0 of layer 0 looks at token 0 alone, and head 1 evenly."""
    model = tiny_model("llama")
    attention = model.model.layers[0].self_attn
    slow = attention.head_dim - 1  # the dimension that rotates least
    with torch.no_grad():
        table = model.model.embed_tokens.weight
        table[:, :2] = torch.tensor([0.0, 1.0])
        table[0] = 0
        table[0, 0] = 40
        table[0, 1] = 1
        model.model.layers[0].input_layernorm.weight.fill_(1)
        rows = attention.q_proj.weight
        rows[: 2 * attention.head_dim] = 0
        rows[slow, 1] = 300
        attention.k_proj.weight[: attention.head_dim] = 0
        attention.k_proj.weight[slow, 0] = 30
        attention.v_proj.weight[: attention.head_dim, 0] = 0
    return model


@pytest.fixture(scope="module")
def report(planted):
    ids = [0, *range(2, 25), 0, *range(20, 43)]
    return measure_sinks(planted, ids, window=24, name="planted")


def test_a_planted_sink_is_found(report):
    assert report.num_windows == 2
    found = {(row.layer, row.head): row for row in report.heads}
    sink, even = found[0, 0], found[0, 1]
    assert sink.sink_mass > 0.99
    assert sink.dormant == 1.0
    assert sink.value_drain < 0.2
    assert sink.residual_peak > 5
    assert even.sink_mass == pytest.approx(even.even_mass, abs=1e-6)
    assert even.even_mass == pytest.approx(sum(1 / n for n in range(2, 25)) / 23)
    assert max(report.heads, key=lambda row: row.sink_mass) is sink


def test_the_model_stays_as_it_was(planted, report):
    assert planted.config._attn_implementation == "sdpa"


def test_the_page_names_the_head(report):
    page = render_html(sinks_document(report))
    assert "layer 0, head 0" in page
    assert "Attention sinks" in page


def test_bad_input_is_refused():
    model = tiny_model("llama")
    with pytest.raises(ConfigError, match="too few"):
        measure_sinks(model, [1, 2, 3])
    with pytest.raises(ConfigError, match="0 sinks"):
        measure_sinks(model, list(range(40)), sinks=0)
    with pytest.raises(ConfigError, match="exceeds the context"):
        measure_sinks(model, list(range(40)), window=1 << 20)
    with pytest.raises(UnsupportedModelError):
        measure_sinks(tiny_model("mamba"), list(range(40)), window=20)
    assert model.config._attn_implementation == "sdpa"
