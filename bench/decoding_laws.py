"""Losslessness and one-step acceptance for the bench of the decoding room."""

from collections import Counter
from typing import Any

import numpy as np
import scipy.stats
import torch
from torch import Tensor

from jeton.decoding.chance import DRAFT_STREAM, VERIFY_STREAM, SeededChance
from jeton.decoding.contract import DISTINCT, Law, Sampling, TreeLogits
from jeton.decoding.noise import gumbel
from jeton.decoding.registry import VERIFIERS
from jeton.decoding.transport import optimal_acceptance
from jeton.decoding.verifiers.spectr import division_factor
from jeton.lm.load import LanguageModel
from jeton.lm.tree import TokenTree
from jeton.testing.identity import check_identity
from jeton.testing.tables import (
    TableDrafter,
    TableModel,
    output_law,
    random_laws,
    total_variation,
)

SAMPLERS = ("multi_round", "spectr", "rsd", "optimal_transport")
COUNTS = (1, 2, 4, 8)
Pair = tuple[Tensor, Tensor]


def enumerated() -> float:
    """Return the largest total variation of an exact verifier over strings of length 3."""
    generator = torch.Generator().manual_seed(1)
    target = TableModel(random_laws(4, generator, sharpness=1.5))
    draft = random_laws(4, generator)
    worst = 0.0
    for name in (*SAMPLERS, "speculative"):
        found = output_law(
            target,
            lambda chances: TableDrafter(draft, chances, (2,)),
            lambda chances, name=name: VERIFIERS.create(name, {"chance": chances}),
            length=3,
        )
        worst = max(worst, total_variation(found, target.string_law(0, 3)))
    return worst


def identical(lm: LanguageModel, num_prompts: int, sampling: Sampling) -> float:
    """Return the share of prompts whose ids wild chains and wild trees leave as they are."""
    found = check_identity(
        lm, num_prompts, num_prompt_tokens=8, max_new_tokens=8, sampling=sampling
    )
    return min(found.same_with_chains, found.same_with_trees) / num_prompts


def one_step_pairs(lm: LanguageModel, draft: LanguageModel, ids: list[int]) -> list[Pair]:
    """Return target and draft laws of real contexts, over the tokens that either finds likely."""
    found = []
    with torch.inference_mode():
        rows = [m.model(torch.tensor([ids])).logits[0].double().softmax(-1) for m in (lm, draft)]
    size = min(lm.vocabulary.vocab_size, draft.vocabulary.vocab_size)
    for place in range(32, len(ids), 8):
        p, q = rows[0][place, :size], rows[1][place, :size]
        kept = (p + q).topk(200).indices.sort().values
        p, q = p[kept], q[kept]
        found.append((p / p.sum(), q / q.sum()))
    return found


def acceptance_table(pairs: list[Pair], num_draws: int) -> dict[str, dict[str, list[float]]]:
    """Return per verifier what was measured, what is known and the bound, at k = 1, 2, 4, 8."""
    table: dict[str, dict[str, list[float]]] = {}
    for name in (*SAMPLERS, "seed_exact"):
        rows: dict[str, list[float]] = {"measured": [], "known": [], "bound": []}
        for k in COUNTS:
            figures = [
                (
                    _coupled(p, q, k, num_draws, index)
                    if name == "seed_exact"
                    else _measured(name, p, q, k, num_draws, index),
                    _known(name, p, q, k),
                    _bound(name, p, q, k),
                )
                for index, (p, q) in enumerate(pairs)
            ]
            for key, values in zip(rows, zip(*figures, strict=True), strict=True):
                rows[key].append(float(np.mean(values)))
        table[name] = rows
    return table


class _Refuses(SeededChance):
    """Draws as seeded, accepts nothing, and multiplies the probabilities of refusal."""

    refused = 1.0

    def accepts(self, probability: float) -> bool:
        """Refuse."""
        self.refused *= 1.0 - probability
        return False


def _measured(name: str, p: Tensor, q: Tensor, k: int, num_draws: int, seed: int) -> float:
    """Mean over random drafts of the probability that the real verifier keeps one of them."""
    verifier: Any = VERIFIERS.create(name)
    drawing = SeededChance(seed, DRAFT_STREAM)
    total = 0.0
    for turn in range(num_draws):
        drawing.at(turn)
        left, tokens = q.clone(), []
        for _ in range(min(k, int((q > 0).sum()))):
            tokens.append(drawing.draws(left))
            if verifier.draws == DISTINCT:
                left[tokens[-1]] = 0.0
        chance = _Refuses(seed, VERIFY_STREAM)
        chance.at(turn)
        verifier.judge(p, Law(q, tuple(range(len(tokens)))), tokens, chance)
        total += 1.0 - chance.refused
    return total / num_draws


def _coupled(p: Tensor, q: Tensor, k: int, num_draws: int, seed: int) -> float:
    """Share of positions at which the seed-exact choice is among the draft's k best guesses."""
    verifier: Any = VERIFIERS.create("seed_exact", {"seed": seed})
    held = 0
    for position in range(num_draws):
        guesses = (q.log() + gumbel(seed, position, len(q))).topk(min(k, len(q))).indices.tolist()
        tree = TokenTree([0, *guesses], [-1, *([0] * len(guesses))])
        raw = p.log().expand(len(tree), -1)
        rows = TreeLogits(raw, tree, [0], Sampling(temperature=1.0))
        held += len(verifier.select(tree, rows, position).path) > 1
    return held / num_draws


def _known(name: str, p: Tensor, q: Tensor, k: int) -> float:
    """The value by formula, or by an independent simulation where there is none."""
    if name == "optimal_transport":
        return optimal_acceptance(p, q, k)
    if name == "spectr":
        beta = float(torch.minimum(q, p / division_factor(p, q, k)).sum())
        return 1.0 - (1.0 - beta) ** k
    if name == "multi_round":
        refused, rest = 1.0, p
        for _ in range(k):
            refused *= 1.0 - float(torch.minimum(rest, q).sum())
            left = (rest - q).clamp_min(0.0)
            rest = left / left.sum() if float(left.sum()) > 0 else rest
        return 1.0 - refused
    generator = np.random.default_rng(5)
    num_trials = 1500
    noise = generator.gumbel(size=(num_trials, len(q)))
    guesses = np.argsort(-(np.log(np.maximum(q.numpy(), 1e-300)) + noise), axis=1)[:, :k]
    if name == "seed_exact":
        wanted = (np.log(np.maximum(p.numpy(), 1e-300)) + noise).argmax(1)
        return float((guesses == wanted[:, None]).any(1).mean())
    return float(np.mean([_rsd(p.numpy(), q.numpy(), row) for row in guesses]))


def _rsd(p: np.ndarray, q: np.ndarray, tokens: np.ndarray) -> float:
    """The chance that recursive rejection keeps one of distinct draws (Jeon et al., Alg. 2)."""
    refused = 1.0
    for token in tokens:
        if q[token] <= 0:
            break
        refused *= 1.0 - min(1.0, p[token] / q[token])
        p = np.maximum(p - q, 0.0)
        if p.sum() <= 0:
            break
        p = p / p.sum()
        q = q.copy()
        q[token] = 0.0
        q = q / max(q.sum(), 1e-300)
    return 1.0 - refused


def _bound(name: str, p: Tensor, q: Tensor, k: int) -> float:
    is_distinct = name in ("rsd", "seed_exact")
    return optimal_acceptance(p, q, k, with_replacement=not is_distinct)


def chi_square(pair: Pair, num_samples: int) -> dict[str, float]:
    """Return per verifier the p-value of sampled tokens against the law of the target."""
    p, q = pair
    found = {}
    for name in (*SAMPLERS, "seed_exact"):
        counts = Counter(_sample(name, p, q, seed) for seed in range(num_samples))
        expected = p.numpy() * num_samples
        common = expected >= 5
        seen = np.array([counts.get(token, 0) for token in range(len(p))])
        cells = np.append(seen[common], seen[~common].sum())
        law = np.append(expected[common], expected[~common].sum())
        statistic = float(((cells - law) ** 2 / np.maximum(law, 1e-12)).sum())
        found[name] = float(scipy.stats.chi2.sf(statistic, len(cells) - 1))
    return found


def _sample(name: str, p: Tensor, q: Tensor, seed: int) -> int:
    """Draw four drafts, judge them, and return the token that comes out."""
    verifier: Any = VERIFIERS.create(name, {"seed": seed})
    if name == "seed_exact":
        tree = TokenTree([0, 1, 2], [-1, 0, 0])
        rows = TreeLogits(p.log().expand(3, -1), tree, [0], Sampling(temperature=1.0))
        chosen = verifier.select(tree, rows, 1)
        return tree.token_ids[chosen.path[1]] if len(chosen.path) > 1 else chosen.next_token
    drawing = SeededChance(seed, DRAFT_STREAM)
    drawing.at(1)
    left, tokens = q.clone(), []
    for _ in range(4):
        tokens.append(drawing.draws(left))
        if verifier.draws == DISTINCT:
            left[tokens[-1]] = 0.0
    chance = SeededChance(seed, VERIFY_STREAM)
    chance.at(1)
    kept, rest = verifier.judge(p, Law(q, (0, 1, 2, 3)), tokens, chance)
    return tokens[kept] if kept is not None else chance.draws(rest)
