"""What "auto" stands for among the initializers."""

from jeton.lm.load import load_model
from jeton.retrofit.auto_init import chosen
from jeton.testing.models import tiny_language_model


def test_the_starter_model_has_a_hypernetwork():
    assert chosen("auto", {}, load_model("starter")) == "zett"


def test_the_draft_shares_the_vocabulary_but_not_the_network():
    assert chosen("auto", {}, load_model("starter-draft")) == "mean"


def test_a_model_without_one_starts_from_the_mean():
    lm = tiny_language_model()
    assert chosen("auto", {}, lm) == "mean"
    assert chosen("auto", {"zett.hypernetwork": "net"}, lm) == "zett"
    assert chosen("ridge", {}, lm) == "ridge"
