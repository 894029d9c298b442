"""ChocoLlama: a fresh vocabulary for Dutch, re-initialised embeddings, LoRA with full embeddings.

Source: Meeus et al. 2024, "ChocoLlama: Lessons Learned From Teaching Llamas Dutch",
https://arxiv.org/abs/2412.07633 (section on Llama-2 with its own Dutch tokenizer).
Differs from the source: rows start from the parts that spelled a token instead of a translated
vocabulary, since no parallel text is asked for; adapters have no dropout.
Cost: that of LoRA on every linear layer and of training the embeddings in full.
"""

from dataclasses import dataclass

from jeton.transfer.recipe import RecipeSettings


@dataclass(frozen=True, slots=True)
class ChocoLlama:
    """The recipe; a vocabulary of the source's size, learned by byte-level BPE."""

    def settings(self) -> RecipeSettings:
        """Return the names and options."""
        return RecipeSettings(
            to="bpe",
            init="mean",
            heal="lora",
            language="nl",
            options={"lora.r": "8", "lora.alpha": "32"},
        )
