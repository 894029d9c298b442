"""Which initializer "auto" stands for; docs/retrofit.md has the table that it was chosen by."""

from typing import Any

from jeton.lm.load import LanguageModel
from jeton.transfer.embeddings import is_tied, read_matrices
from jeton.transfer.hypernetwork import best_start

AUTO = "auto"
_NETWORK = "zett.hypernetwork"


def candidates(init: str) -> tuple[str, ...]:
    """Return the initializers that may be meant, the best one first."""
    return ("zett", "mean") if init == AUTO else (init,)


def chosen(init: str, options: dict[str, Any], source: LanguageModel) -> str:
    """Return the initializer to take: for "auto" the hypernetwork, where the model has one.

    Args:
        init: What is asked.
        options: Of all methods; naming a hypernetwork asks for it.
        source: The model.
    Raises:
        UnsupportedModelError, TokenizerMismatchError: see `read_matrices`.
    """
    if init != AUTO:
        return init
    embedding, head = read_matrices(source.model, source.vocabulary)
    columns = embedding.weight.shape[1] * (1 if is_tied(embedding, head) else 2)
    return best_start(source.vocabulary, columns, options.get(_NETWORK, ""))
