"""ChocoLlama: a fresh vocabulary for Dutch, re-initialised embeddings, LoRA with full embeddings.

Source: Meeus et al. 2024, "ChocoLlama: Lessons Learned From Teaching Llamas Dutch",
https://arxiv.org/abs/2412.07633 (Llama-2 with a Dutch tokenizer); r, alpha and the learning rate
as in the authors' code, https://github.com/ChocoLlamaModel/ChocoLlama.
Differs from the source: the vocabulary is learned, not that of an existing Dutch model; rows start
from the parts that spelled a token instead of a translated vocabulary, since no parallel text is
asked for; adapters have no dropout (0.05 there), so that a resumed run is the same run.
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
            options={
                "lora.r": "8",
                "lora.alpha": "32",
                "lora.lr_body": "3e-4",
                "lora.lr_embeddings": "3e-4",
            },
        )
