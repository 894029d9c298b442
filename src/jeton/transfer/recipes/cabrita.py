"""Cabrita: the vocabulary extended for Portuguese, then continued training of every weight.

Source: Larcher et al. 2023, "Cabrita: closing the gap for foreign languages",
https://arxiv.org/abs/2308.11878; sizes (32,000 tokens of OpenLLaMA grown to 52,000), the length of
rows and the learning rate as in the authors' code, https://github.com/22-hours/open_cabrita.
Differs from the source: merges are learned on top of the source's own instead of uniting two
vocabularies, so that nothing becomes unreachable; no weight decay (0.1 there), and a warm-up of a
few steps (2,000 of 250,000 there).
Cost: a training step of the whole model per batch.
"""

from dataclasses import dataclass

from jeton.transfer.recipe import RecipeSettings


@dataclass(frozen=True, slots=True)
class Cabrita:
    """The recipe; five eighths more tokens, as from 32,000 to 52,000."""

    def settings(self) -> RecipeSettings:
        """Return the names and options."""
        return RecipeSettings(
            to="extend",
            init="mean",
            heal="cross_entropy",
            growth=0.625,
            language="pt",
            options={
                "cross_entropy.embeddings_only": "0",
                "cross_entropy.length": "2048",
                "cross_entropy.lr_body": "3e-4",
                "cross_entropy.lr_embeddings": "3e-4",
                "extend.spans": "source",
            },
        )
