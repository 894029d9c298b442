"""Vocabulary expansion: add tokens, start them as convex combinations (CW2V), train by LoRA.

Source: Mundra et al. 2024, "An Empirical Comparison of Vocabulary Expansion and Initialization
Approaches for Language Models", https://arxiv.org/abs/2407.05841; r, alpha, the length of rows and
the learning rate as in the authors' code, https://github.com/AI4Bharat/VocabAdaptation_LLM.
Differs from the source: a quarter more tokens, where one vocabulary for several languages was
united with the source's; adapters on every linear layer (query, key and value there) and without
dropout (0.05 there).
Cost: a few hundred skip-gram steps, then that of LoRA and of training the embeddings in full.
"""

from dataclasses import dataclass

from jeton.transfer.recipe import RecipeSettings


@dataclass(frozen=True, slots=True)
class VocabularyExpansion:
    """The recipe, for any language."""

    def settings(self) -> RecipeSettings:
        """Return the names and options."""
        return RecipeSettings(
            to="extend",
            init="cw2v",
            heal="lora",
            growth=0.25,
            options={
                "lora.r": "16",
                "lora.alpha": "32",
                "lora.length": "1024",
                "lora.lr_body": "2e-4",
                "lora.lr_embeddings": "2e-4",
            },
        )
