"""Vocabulary expansion: add tokens, start them as convex combinations (CW2V), train on.

Source: Mundra et al. 2024, "An Empirical Comparison of Vocabulary Expansion and Initialization
Approaches for Language Models", https://arxiv.org/abs/2407.05841.
Differs from the source: a quarter more tokens; the embeddings train alone at first.
Cost: a few hundred skip-gram steps, then a training step of the whole model per batch.
"""

from dataclasses import dataclass

from jeton.transfer.recipe import RecipeSettings


@dataclass(frozen=True, slots=True)
class VocabularyExpansion:
    """The recipe, for any language."""

    def settings(self) -> RecipeSettings:
        """Return the names and options."""
        return RecipeSettings(to="extend", init="cw2v", heal="cross_entropy", growth=0.25)
