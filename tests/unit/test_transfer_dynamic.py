"""Reading with joined tokens, the index of output rows, and generation with a large vocabulary."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from jeton.errors import ConfigError, TokenizerMismatchError, UnsupportedModelError
from jeton.lm.load import LanguageModel
from jeton.testing.models import tiny_language_model
from jeton.transfer import output_index
from jeton.transfer.dynamic import DynamicOptions, DynamicReader, RowCache
from jeton.transfer.dynamic_bits import PrefillOptions, measure_prefill
from jeton.transfer.embeddings import rows_of
from jeton.transfer.hypernetwork import Hypernetwork, HypernetworkConfig, fingerprint
from jeton.transfer.large_vocabulary import LargeVocabulary, frequent_words
from jeton.transfer.output_index import IndexOptions, OutputIndex

TEXT = "the cat and the other cat ran on and on, then the hat ran at the rat. "
ALL = DynamicOptions(num_merges=12, keep_last=0)


def model_of(family: str = "llama", **overrides: object) -> LanguageModel:
    """A tiny model whose embedding has a row for each id and no more."""
    size = tiny_language_model().vocabulary.vocab_size
    return tiny_language_model(family, vocab_size=size, **overrides)


def network_for(lm: LanguageModel, columns: int = 0) -> Hypernetwork:
    columns = columns or rows_of(lm.model, lm.vocabulary).shape[1]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = Hypernetwork(
            HypernetworkConfig(columns, fingerprint(lm.vocabulary), width=8, num_layers=1)
        )
        torch.nn.init.normal_(network.leave.weight)
    return network.eval()


def ids_of(lm: LanguageModel, text: str) -> list[int]:
    bos = lm.vocabulary.bos_token_id
    return [*([] if bos is None else [bos]), *lm.vocabulary.encode(text)]


@pytest.mark.parametrize("family", ["llama", "gemma2", "gemma3", "gpt2", "opt"])
def test_without_merges_the_logits_are_the_models_own_bits(family: str):
    lm = model_of(family)
    reader = DynamicReader(lm, network_for(lm), DynamicOptions(num_merges=0))
    inputs = reader.inputs([TEXT])
    with torch.inference_mode():
        found = lm.model(**inputs, use_cache=False).logits
        wanted = lm.model(
            input_ids=torch.tensor([ids_of(lm, TEXT)]),
            attention_mask=inputs["attention_mask"],
            use_cache=False,
        ).logits
    assert torch.equal(found, wanted)


@pytest.mark.parametrize("family", ["llama", "gemma3"])
def test_joined_tokens_get_the_networks_rows_and_others_stay(family: str):
    lm = model_of(family)
    network = network_for(lm)
    reader = DynamicReader(lm, network, ALL)
    ids = ids_of(lm, TEXT)
    joined = reader.join([ids, ids[:9]])
    assert len(joined.token_ids[0]) < len(ids) and joined.spellings
    rows = reader.embed(joined)
    layer, size = lm.model.get_input_embeddings(), lm.vocabulary.vocab_size
    source, rows_beside = layer.weight.detach(), rows_of(lm.model, lm.vocabulary)
    scale = float(layer(torch.tensor([5])).detach()[0, 0] / source[5, 0])
    assert (abs(scale - 1) > 0.1) == (family == "gemma3")
    for own, given in zip(joined.token_ids, rows, strict=True):
        for token_id, row in zip(own.tolist(), given, strict=True):
            if token_id < size:
                assert torch.equal(row, layer(torch.tensor(token_id)).detach())
            else:
                spelling = joined.spellings[token_id - size]
                wanted = network.predict(rows_beside, [spelling])[0, :32] * scale
                torch.testing.assert_close(row, wanted, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("scope", ["word", "any"])
@pytest.mark.parametrize("keep_last", [0, 7, 10_000])
def test_bytes_special_tokens_and_the_last_tokens_stay(scope: str, keep_last: int):
    lm = model_of()
    options = DynamicOptions(num_merges=30, scope=scope, keep_last=keep_last)
    reader = DynamicReader(lm, None, options)
    end = lm.vocabulary.special_tokens["<s>"]
    noise = lm.vocabulary.encode(bytes(range(256)) * 2)
    documents = [[end, *lm.vocabulary.encode(TEXT * 2), end, *noise, end, end], [], [end]]
    before = [list(document) for document in documents]
    joined = reader.join(documents)
    assert documents == before
    for index, document in enumerate(documents):
        assert reader.bytes_of(joined, index) == lm.vocabulary.bytes_of(document)
        own = joined.token_ids[index].tolist()
        assert own.count(end) == document.count(end)
        kept = min(keep_last, len(document))
        assert own[len(own) - kept :] == document[len(document) - kept :]
    assert (len(joined.token_ids[0]) < len(documents[0])) == (keep_last < 1000)


def test_rows_may_go_into_a_plain_forward():
    lm = model_of()
    reader = DynamicReader(lm, None, ALL)
    rows = reader.embed(reader.join([ids_of(lm, TEXT)]))[0]
    output = lm.model(inputs_embeds=rows[None])
    output.logits.sum().backward()  # inference tensors would be refused here


def test_padding_on_the_left_leaves_the_last_logits():
    lm = model_of()
    reader = DynamicReader(lm, None, DynamicOptions(num_merges=0))
    both, one = reader.inputs([TEXT, TEXT[:20]]), reader.inputs([TEXT[:20]])
    assert both["attention_mask"].sum(1).tolist() == [
        len(ids_of(lm, TEXT)),
        len(ids_of(lm, TEXT[:20])),
    ]
    found = lm.model.generate(**both, max_new_tokens=3, do_sample=False)
    wanted = lm.model.generate(**one, max_new_tokens=3, do_sample=False)
    assert found[1].tolist() == wanted[0].tolist()


def test_the_cache_keeps_what_was_used_last():
    rows = torch.randn(20, 4, generator=torch.Generator().manual_seed(0))
    cache = RowCache(rows, None, size=2)
    first = cache.get([(1, 2), (3, 4), (1, 2)])
    assert (cache.hits, cache.misses, len(cache)) == (1, 2, 2)
    torch.testing.assert_close(first[1], rows[[3, 4]].mean(0))
    assert torch.equal(first[0], first[2])
    cache.get([(1, 2)])  # now (3, 4) is the oldest
    cache.get([(5, 6)])
    cache.get([(1, 2)])
    assert (cache.hits, cache.misses) == (3, 3)
    cache.get([(3, 4)])
    assert (cache.hits, cache.misses, len(cache)) == (3, 4, 2)
    assert RowCache(rows, None, size=0).get([(1, 2)]).shape == (1, 4)
    assert cache.get([]).shape == (0, 4)


def test_networks_of_another_base_are_refused():
    lm = model_of()
    other = Hypernetwork(HypernetworkConfig(32, "another", width=8, num_layers=1))
    with pytest.raises(TokenizerMismatchError, match="another vocabulary"):
        DynamicReader(lm, other)
    with pytest.raises(TokenizerMismatchError, match="rows of 16 numbers"):
        DynamicReader(lm, network_for(lm, 16))
    with pytest.raises(TokenizerMismatchError, match="not of a vocabulary"):
        DynamicReader(lm, None).join([[10_000]])
    with pytest.raises(ConfigError, match="nothing to read"):
        DynamicReader(lm, None).inputs([])
    weight = lm.model.get_input_embeddings().weight.detach().to(torch.int8)
    lm.model.get_input_embeddings().weight = torch.nn.Parameter(weight, requires_grad=False)
    with pytest.raises(UnsupportedModelError, match="quantised"):
        DynamicReader(lm, None)


@pytest.mark.parametrize(
    "bad", [{"num_merges": -1}, {"scope": "line"}, {"keep_last": -1}, {"cache_size": -1}]
)
def test_bad_options_are_refused(bad: dict):
    with pytest.raises(ConfigError):
        DynamicOptions(**bad)


@pytest.fixture(scope="module")
def numbers() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Rows with doubles among them, a bias, and queries, in float64."""
    generator = torch.Generator().manual_seed(2)
    rows = torch.randn(700, 8, generator=generator, dtype=torch.float64)
    rows[[300, 500, 699]] = rows[[3, 3, 20]]
    bias = torch.randn(700, generator=generator, dtype=torch.float64) / 2
    bias[[300, 500, 699]] = bias[[3, 3, 20]]
    queries = torch.randn(40, 8, generator=generator, dtype=torch.float64)
    return rows, bias, torch.cat([queries, rows[[3, 20]] * 3])


@pytest.mark.parametrize("k", [1, 2, 5, 700])
@pytest.mark.parametrize("num_cells", [0, 30])
@pytest.mark.parametrize("has_bias", [False, True])
def test_exact_search_equals_brute_force(numbers, monkeypatch, k, num_cells, has_bias):
    monkeypatch.setattr(output_index, "_BLOCK", 4200)  # 100 rows a block
    rows, bias, queries = numbers
    index = OutputIndex(rows, bias if has_bias else None, IndexOptions(num_cells, 30))
    found, ids = index.search(queries, k)
    logits = queries @ rows.T + (bias if has_bias else 0)
    wanted = logits.sort(descending=True, stable=True)  # of equal ones the lowest id first
    assert ids.tolist() == wanted.indices[:, :k].tolist()
    torch.testing.assert_close(found, wanted.values[:, :k])


def test_few_cells_find_most_of_the_best_rows():
    generator = torch.Generator().manual_seed(1)
    lengths = torch.randn(3000, 1, generator=generator).mul(0.8).exp()  # long rows win: cells know
    rows = torch.randn(3000, 8, generator=generator) * lengths
    bias, queries = torch.randn(3000, generator=generator), torch.randn(300, 8, generator=generator)
    index = OutputIndex(rows, bias, IndexOptions(num_cells=60, num_probes=8))
    logits = queries @ rows.T + bias
    found, ids = index.search(queries, 1)
    torch.testing.assert_close(found, logits.gather(1, ids))
    share = float((ids[:, 0] == logits.argmax(1)).double().mean())
    assert 0.6 <= share < 1.0, "the cells say nothing, or all of them are searched"
    one = OutputIndex(rows, None, IndexOptions(num_cells=60, num_probes=1))
    scores, ids = one.search(queries, 400)
    assert (ids == -1).any() and torch.isneginf(scores[ids == -1]).all()


def test_bad_indexes_are_refused(numbers):
    rows, bias, queries = numbers
    for build in (
        lambda: OutputIndex(rows[:0]),
        lambda: OutputIndex(rows, bias[:5]),
        lambda: OutputIndex(rows, None, IndexOptions(num_cells=701)),
        lambda: OutputIndex(rows).search(queries, 701),
        lambda: OutputIndex(rows).search(queries, 0),
        lambda: IndexOptions(num_cells=-1),
        lambda: IndexOptions(num_probes=0),
    ):
        with pytest.raises(ConfigError):
            build()


@pytest.mark.parametrize("family", ["llama", "gemma2", "gpt2"])
def test_without_further_tokens_generation_is_the_models_own(family: str):
    lm = model_of(family)
    found = LargeVocabulary(DynamicReader(lm, None), []).generate(TEXT, 10)
    ids = torch.tensor([ids_of(lm, TEXT)])
    mask = torch.ones_like(ids)
    wanted = lm.model.generate(ids, attention_mask=mask, max_new_tokens=10, do_sample=False)
    expected = [i for i in wanted[0, ids.shape[1] :].tolist() if i != lm.vocabulary.eos_token_id]
    assert found.token_ids == expected
    assert found.data == lm.vocabulary.bytes_of(expected)


def test_generation_stops_at_an_end_of_text():
    lm = model_of()
    large = LargeVocabulary(DynamicReader(lm, None), [])
    free = large.generate(TEXT, 8)
    assert not free.ended and len(free.token_ids) == 8
    end = free.token_ids[4]
    for ends in (end, [end]):
        lm.model.generation_config.eos_token_id = ends
        found = large.generate(TEXT, 8)
        assert found.ended and found.token_ids == free.token_ids[: free.token_ids.index(end)]
        assert found.data == lm.vocabulary.bytes_of(found.token_ids)


@pytest.mark.parametrize("is_tied", [True, False])
def test_each_step_takes_the_best_of_all_tokens(is_tied: bool):
    lm = model_of(tie_word_embeddings=is_tied)
    head, size = lm.model.get_output_embeddings(), lm.vocabulary.vocab_size
    if not is_tied:
        generator = torch.Generator().manual_seed(0)
        head.bias = torch.nn.Parameter(torch.randn(size, generator=generator))
    words = frequent_words(lm.vocabulary, [lm.vocabulary.encode(TEXT)], 8)
    network = network_for(lm)
    assert network.config.columns == (32 if is_tied else 64)
    large = LargeVocabulary(DynamicReader(lm, network), words)
    assert len(large) == size + 8
    found = large.generate(TEXT, 6)
    assert any(i >= size for i in found.token_ids), "no further token was taken"
    assert found.data == b"".join(lm.vocabulary.bytes_of(large.spell([i])) for i in found.token_ids)
    rows = head.weight.detach()
    made = network.predict(large.rows[:size], words)
    output = torch.cat([rows, made[:, -32:]])
    bias = torch.zeros(size + 8)
    if not is_tied:
        own = head.bias.detach()
        bias = torch.cat([own, torch.stack([own[list(word)].mean() for word in words])])
    if not is_tied:
        torch.testing.assert_close(large.index.bias, bias)
    given = large.embed([*large.encode(ids_of(lm, TEXT)), *found.token_ids])
    with torch.inference_mode():
        hidden = lm.model.model(inputs_embeds=given[None]).last_hidden_state[0]
    best = (hidden @ output.T + bias).argmax(1).tolist()
    assert found.token_ids == best[-7:-1]


def test_words_that_the_source_cuts_are_counted():
    lm = model_of()
    ids = lm.vocabulary.encode("the hat, the hat; the rat the hat,")
    words = frequent_words(lm.vocabulary, [ids, []], 3)
    assert [lm.vocabulary.bytes_of(word) for word in words[:2]] == [b" hat,", b" hat;"]
    large = LargeVocabulary(DynamicReader(lm, None), words)
    found = large.encode(ids)
    assert large.spell(found) == ids and len(found) < len(ids)
    assert frequent_words(lm.vocabulary, [ids], 9, max_parts=1) == []
    end = lm.vocabulary.special_tokens["<s>"]
    held = frequent_words(lm.vocabulary, [[end, *lm.vocabulary.encode("hat,"), end]], 9)
    assert [lm.vocabulary.bytes_of(word) for word in held] == [b"hat,"]
    nested = LargeVocabulary(DynamicReader(lm, None), [(5, 6), (5, 6, 7)])
    size = lm.vocabulary.vocab_size
    assert nested.encode([5, 6, 7, 5, 6, 5]) == [size + 1, size, 5]


def test_bad_large_vocabularies_are_refused():
    reader = DynamicReader(model_of(), None)
    for bad in ([(1,)], [(1, 2), (1, 2)]):
        with pytest.raises(ConfigError):
            LargeVocabulary(reader, bad)
    with pytest.raises(TokenizerMismatchError):
        LargeVocabulary(reader, [(1, 10_000)])
    large = LargeVocabulary(reader, [])
    for asked in (0, 10_000):
        with pytest.raises(ConfigError, match="do not fit"):
            large.generate(TEXT, asked)


def test_prefill_figures_are_those_of_the_plain_model():
    lm = model_of()
    text = TEXT * 4
    reader = DynamicReader(lm, network_for(lm), ALL)
    options = PrefillOptions(read=60, scored=20, batch=2, max_windows=2)
    result = measure_prefill(reader, [text], [0, 20], options)
    ids = lm.vocabulary.encode(text)
    nats, size = 0.0, 0
    for start in (0, 80):
        window = torch.tensor(ids[start : start + 80])
        with torch.inference_mode():
            logits = lm.model(input_ids=window[None]).logits[0, 59:-1]
        nats += float(torch.nn.functional.cross_entropy(logits, window[60:], reduction="sum"))
        size += len(lm.vocabulary.bytes_of(window[60:].tolist()))
    assert (result.num_windows, result.num_bytes) == (2, size)
    assert result.bits_per_byte == pytest.approx(nats / size / np.log(2), rel=1e-5)
    none, some = result.points
    assert none.reduction == 0 and none.bits_per_byte == result.bits_per_byte
    assert none.cut_bits_per_byte == result.bits_per_byte and none.cosine == pytest.approx(1)
    assert some.reduction > 0.1 and some.cosine < 0.999
    assert some.bits_per_byte != none.bits_per_byte != some.cut_bits_per_byte
    one = measure_prefill(reader, [text], [20], replace(options, max_windows=1)).points[0]
    kept = torch.tensor(ids[round(60 * one.reduction) : 80])
    with torch.inference_mode():
        logits = lm.model(input_ids=kept[None]).logits[0, -21:-1]
    nats = float(torch.nn.functional.cross_entropy(logits, kept[-20:], reduction="sum"))
    size = len(lm.vocabulary.bytes_of(kept[-20:].tolist()))
    assert one.cut_bits_per_byte == pytest.approx(nats / size / np.log(2), rel=1e-5)
    for texts, changed in ((["short"], options), ([text], replace(options, read=5000))):
        with pytest.raises(ConfigError):
            measure_prefill(reader, texts, [0], changed)
    with pytest.raises(ConfigError):
        PrefillOptions(read=0)
