"""Continue a prompt that ends inside a token: draw a cover of it, then go on in tokens.

Source: Phan et al. 2024, https://arxiv.org/abs/2410.09303, section 4: exact sampling at the cut.
Differs from the source: the cover is drawn at once; behind it generation is ordinary, at ordinary
speed, and the law of the whole is that of the token model.
Cost: the prompt's prefill and a handful of nodes at its end.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from jeton.bytelm.byte_lm import ByteLM
from jeton.bytelm.prompt import Part, Prompt, Special
from jeton.core.vocabulary import Vocabulary
from jeton.errors import ConfigError
from jeton.lm.load import LanguageModel

FIM_NAMES = (  # prefix, suffix, middle of published models
    ("<fim_prefix>", "<fim_suffix>", "<fim_middle>"),
    ("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"),
    ("<fim-prefix>", "<fim-suffix>", "<fim-middle>"),
    ("<|fim▁begin|>", "<|fim▁hole|>", "<|fim▁end|>"),
    ("<｜fim▁begin｜>", "<｜fim▁hole｜>", "<｜fim▁end｜>"),
    ("<PRE>", "<SUF>", "<MID>"),
    ("▁<PRE>", "▁<SUF>", "▁<MID>"),
)


@dataclass(frozen=True)
class Cover:
    """Tokens that begin with the prompt's bytes.

    Attributes:
        token_ids: From the very beginning, start tokens included.
        overhang: Bytes behind the prompt that the last token brings.
        logprob: Of this cover among all of the prompt, nats.
    """

    token_ids: list[int]
    overhang: bytes
    logprob: float


def draw_cover(
    lm: LanguageModel,
    prompt: Prompt,
    *,
    temperature: float = 1.0,
    seed: int = 0,
    measure: str = "canonical",
    start_ids: Sequence[int] | None = None,
) -> Cover:
    """Return a cover of a prompt, in proportion to its probability.

    Args:
        lm: The model.
        prompt: Bytes, or parts with special tokens.
        temperature: Of the token model; 0 takes the most probable cover.
        seed: Of the draw.
        measure: Which tokenizations count.
        start_ids: What stands before every text; None for BOS.
    Raises:
        ConfigError: the prompt is empty, or an option is out of range.
        EncodingError: no text of the tokenizer begins with these bytes.

    Example:
        >>> from jeton.testing.models import tiny_language_model
        >>> cover = draw_cover(tiny_language_model(), b"def f(x):\\n    ret", seed=1)
        >>> cover.overhang.isascii(), cover.logprob <= 0.0
        (True, True)
    """
    if not prompt:
        raise ConfigError("the prompt is empty", hint="give at least one byte")
    byte_lm = ByteLM(lm, measure=measure, temperature=temperature or 1.0, start_ids=start_ids)
    state = byte_lm.state(prompt)
    covers = state.covers()
    shares = np.exp([logprob for _, logprob in covers])
    rng = np.random.default_rng(seed)
    best = temperature == 0.0
    chosen = 0 if best else int(rng.choice(len(covers), p=shares / shares.sum()))
    token_ids, logprob = covers[chosen]
    return Cover(token_ids, _overhang(byte_lm, token_ids, prompt), logprob)


def _overhang(byte_lm: ByteLM, token_ids: list[int], prompt: Prompt) -> bytes:
    """Return what the tokens have behind the prompt's open text."""
    context, text = byte_lm.read_context(prompt)
    size = byte_lm.token_lm.paths.depths[context]
    return byte_lm.vocabulary.decode(token_ids[size:])[len(text) :]


def fim_prompt(
    vocabulary: Vocabulary,
    prefix: bytes | str,
    suffix: bytes | str,
    order: str = "psm",
    names: tuple[str, str, str] | None = None,
) -> list[Part]:
    """Return the parts of a fill-in-the-middle prompt.

    Args:
        vocabulary: Of the model.
        prefix: Text before the hole; with "spm" it may end inside a token.
        suffix: Text behind it.
        order: "psm" (prefix, suffix, middle) or "spm" (suffix, prefix, then the middle goes on
            where the prefix ends).
        names: Of the prefix, suffix and middle tokens; None looks for those of published models.
    Raises:
        ConfigError: an unknown order, or the vocabulary has no such tokens.
    """
    if order not in ("psm", "spm"):
        raise ConfigError(f"order must be psm or spm, got {order!r}")
    known = vocabulary.special_tokens
    if names is None:
        found = [three for three in FIM_NAMES if all(name in known for name in three)]
        if not found:
            raise ConfigError(
                f"{vocabulary.name} has no tokens for filling in that are known here",
                hint="pass names=(prefix, suffix, middle)",
            )
        names = found[0]
    first, second, middle = map(Special, names)
    if order == "psm":
        return [first, prefix, second, suffix, middle]
    return [first, second, suffix, middle, prefix]
