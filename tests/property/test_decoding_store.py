"""The suffix array finds what a scan finds; sizing finds what trying every size finds."""

from hypothesis import given, settings
from hypothesis import strategies as st

from jeton.decoding.sizing import best_num_nodes
from jeton.decoding.store import Datastore
from jeton.lm.cost import CostTable

TEXTS = st.lists(st.lists(st.integers(0, 3), max_size=12), max_size=5)


@settings(derandomize=True, max_examples=80, deadline=None)
@given(TEXTS, st.lists(st.integers(0, 3), min_size=1, max_size=4))
def test_find_equals_a_scan(texts, pattern):
    store = Datastore.build(texts)
    ids = store.token_ids.tolist()
    expected = [i for i in range(len(ids)) if ids[i : i + len(pattern)] == pattern]
    assert sorted(store.find(pattern).tolist()) == expected
    suffixes = [ids[start:] for start in store.suffixes.tolist()]
    assert suffixes == sorted(suffixes)
    for start in expected:
        rest = store.continuation(start + len(pattern), 3)
        assert len(rest) <= 3
        assert -1 not in rest


@settings(derandomize=True, max_examples=80, deadline=None)
@given(
    st.lists(st.floats(0, 1), max_size=9),
    st.lists(st.floats(0.0, 1.0), min_size=3, max_size=3),
)
def test_sizing_is_the_best_of_all_sizes(survival, slopes):
    seconds = [1.0]
    for slope in slopes:
        seconds.append(seconds[-1] + slope)
    cost = CostTable([1, 2, 4, 8], seconds, 0, "toy", "float32")
    ordered = sorted(survival, reverse=True)
    speeds = [(1 + sum(ordered[:n])) / cost.seconds_for(n + 1) for n in range(len(ordered) + 1)]
    found = best_num_nodes(survival, cost)
    assert speeds[found] >= max(speeds) - 1e-12
