"""Contexts whose every fact is asked for once: key-value chains among filler, in five families.

The families are those of Needle Threading (Roberts et al. 2024, https://arxiv.org/abs/2411.05000):
single, multi, conditional, threads, multi_threads; here on symbols, so that a tiny model knows the
task and what fails is the cache. A pair is a key symbol and a value symbol side by side; value i
names key i, so pairs form chains of four.
"""

from dataclasses import dataclass

import numpy as np

from jeton.errors import ConfigError

NUM_SYMBOLS = 96  # keys, and as many values
MARK = 1  # stands before the marked pair of a context
FIRST_KEY = 2
FIRST_VALUE = FIRST_KEY + NUM_SYMBOLS
FIRST_FILLER = FIRST_VALUE + NUM_SYMBOLS
VOCAB_SIZE = 256
CHAIN = 4  # pairs per chain
FAMILIES = ("single", "multi", "conditional", "threads", "multi_threads")
EACH_KEY = "each_key"  # every key once: the steadiest measure of what a cache has lost


@dataclass(frozen=True, slots=True)
class Context:
    """A text of symbols with its facts.

    Attributes:
        token_ids: Shape (length,).
        chains: Symbol indices along each chain, shape (chains, CHAIN + 1).
        marked: Symbol indices of the marked pair, key and value.
        places: Where the key of each symbol stands in a pair.
    """

    token_ids: np.ndarray
    chains: np.ndarray
    marked: tuple[int, int]
    places: dict[int, int]

    @property
    def pairs(self) -> list[tuple[int, int]]:
        """Key and value symbol of every pair, chain by chain."""
        return [(int(c[i]), int(c[i + 1])) for c in self.chains for i in range(CHAIN)]


def draw_context(
    generator: np.random.Generator, length: int, num_chains: int, *, apart: int = 0
) -> Context:
    """Return a context of chains among filler and isolated symbols.

    Args:
        generator: Of the draw.
        length: Tokens.
        num_chains: Chains of four pairs.
        apart: Tokens after each pair that are no symbols.
    Raises:
        ConfigError: the chains do not fit the length or the symbols.
    """
    num_pairs = num_chains * CHAIN
    if (
        num_chains < 1
        or num_chains * (CHAIN + 1) > NUM_SYMBOLS
        or (3 + apart) * num_pairs + 2 > length
    ):
        raise ConfigError(f"{num_chains} chains do not fit into {length} tokens")
    symbols = generator.permutation(NUM_SYMBOLS)
    chains = symbols[: num_chains * (CHAIN + 1)].reshape(num_chains, CHAIN + 1)
    spare = symbols[num_chains * (CHAIN + 1) :]
    pairs = [(int(c[i]), int(c[i + 1])) for c in chains for i in range(CHAIN)]
    order = generator.permutation(num_pairs)
    marked = int(generator.integers(num_pairs))
    plain = FIRST_FILLER + generator.integers(VOCAB_SIZE - FIRST_FILLER, size=(num_pairs, apart))
    pieces = [
        np.array([FIRST_KEY + pairs[i][0], FIRST_VALUE + pairs[i][1], *after])
        for i, after in zip(order, plain, strict=True)
    ]
    place = int(np.flatnonzero(order == marked)[0])
    pieces[place] = np.concatenate([[MARK], pieces[place]])
    num_filler = length - 1 - sum(len(piece) for piece in pieces)
    filler = FIRST_FILLER + generator.integers(VOCAB_SIZE - FIRST_FILLER, size=num_filler)
    if len(spare):  # isolated keys and values, which no question asks for
        lone = generator.random(num_filler) < 0.1
        kinds = np.where(generator.random(num_filler) < 0.5, FIRST_KEY, FIRST_VALUE)
        filler = np.where(lone, kinds + generator.choice(spare, num_filler), filler)
    gaps = np.sort(generator.integers(num_filler + 1, size=num_pairs))
    parts, last = [np.zeros(1, dtype=np.int64)], 0
    for piece, gap in zip(pieces, gaps, strict=True):
        parts += [filler[last:gap], piece]
        last = gap
    token_ids = np.concatenate([*parts, filler[last:]])
    places = {}
    for key, _ in pairs:
        found = np.flatnonzero(token_ids == FIRST_KEY + key)
        places[key] = int(found[0])
    return Context(token_ids, chains, pairs[marked], places)


@dataclass(frozen=True, slots=True)
class Question:
    """What is fed after a context and what must come back.

    Attributes:
        first: The token fed first.
        expected: The right answers, one after the other.
    """

    first: int
    expected: tuple[int, ...]


def draw_questions(
    generator: np.random.Generator, context: Context, family: str, count: int = 8
) -> list[Question]:
    """Return the questions of a family about a context.

    Args:
        generator: Of the draw.
        context: Of `draw_context`.
        family: One of `FAMILIES`, or `EACH_KEY`.
        count: Most questions of a family that asks several.
    Raises:
        ConfigError: there is no such family.
    """
    pairs = context.pairs
    if family == "conditional":
        key, value = context.marked
        return [Question(MARK, (FIRST_KEY + key, FIRST_VALUE + value))]
    if family in ("single", "multi", EACH_KEY):
        most = {"single": 1, "multi": count, EACH_KEY: len(pairs)}[family]
        asked = generator.permutation(len(pairs))[:most]
        return [Question(FIRST_KEY + pairs[i][0], (FIRST_VALUE + pairs[i][1],)) for i in asked]
    if family in ("threads", "multi_threads"):
        num = 1 if family == "threads" else min(count, len(context.chains))
        asked = generator.permutation(len(context.chains))[:num]
        return [
            Question(
                FIRST_KEY + int(context.chains[i][0]),
                tuple(FIRST_VALUE + int(symbol) for symbol in context.chains[i][1:]),
            )
            for i in asked
        ]
    raise ConfigError(f"there is no family {family!r}; there are: {', '.join(FAMILIES)}")


def next_token(answer: int) -> int:
    """Return what is fed after an answer: the key that a value names, a key itself.

    Example:
        >>> next_token(FIRST_VALUE + 5) == FIRST_KEY + 5
        True
    """
    if FIRST_VALUE <= answer < FIRST_FILLER:
        return answer - FIRST_VALUE + FIRST_KEY
    return answer
