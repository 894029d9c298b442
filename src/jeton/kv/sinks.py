"""Which heads rest on the first tokens: sink mass, drained values, peaks of the residual stream.

A head whose queries find nothing gives its attention to a token that costs nothing: the first one,
whose value is short and whose residual is a peak. A head is dormant where it does so, active where
it does not; most change with the text.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedModel

from jeton.core.progress import NO_PROGRESS, Progress
from jeton.errors import ConfigError, UnsupportedModelError

DORMANT = 0.5  # a query with more of its attention on the sinks rests


@dataclass(frozen=True, slots=True)
class HeadFigures:
    """What one query head does with the first tokens.

    Attributes:
        layer: Index of the layer.
        head: Index of the query head.
        sink_mass: Mean attention that queries after the sinks give to them.
        even_mass: The same, were attention even over all tokens that a query sees.
        dormant: Part of these queries that give them more than half of their attention.
        value_drain: Mean norm of the values of the sinks over that of the other tokens.
        residual_peak: Largest norm of the layer's input at a sink over the median of the others.
    """

    layer: int
    head: int
    sink_mass: float
    even_mass: float
    dormant: float
    value_drain: float
    residual_peak: float


@dataclass(frozen=True, slots=True)
class SinkReport:
    """The figures of all heads over a text.

    Attributes:
        model: Its name.
        sinks: First tokens of a window that count as sinks.
        window: Tokens read at once.
        num_windows: Windows read.
        heads: Layer by layer.
    """

    model: str
    sinks: int
    window: int
    num_windows: int
    heads: list[HeadFigures]
    schema_version: int = 1


@torch.inference_mode()
def measure_sinks(
    model: PreTrainedModel,
    token_ids: Sequence[int],
    *,
    name: str = "",
    sinks: int = 1,
    window: int = 256,
    max_windows: int = 8,
    progress: Progress = NO_PROGRESS,
) -> SinkReport:
    """Return what every head does with the first tokens of windows of a text.

    Args:
        model: A decoder with eager attention, in evaluation mode.
        token_ids: The text; what does not fill a window is left out, unless it is the only one.
        name: Of the model, for the report.
        sinks: First tokens of a window that count.
        window: Tokens read at once; the attention of one window is held as a whole.
        max_windows: Most windows that are read.
        progress: Shows how far it is.
    Raises:
        ConfigError: a number that is not allowed, or a text that is too short.
        UnsupportedModelError: the model shows no attention, or its cache no values.

    Example:
        >>> from jeton.testing.models import tiny_model
        >>> report = measure_sinks(tiny_model("llama"), list(range(40)), window=20)
        >>> report.num_windows, round(report.heads[0].even_mass, 3)
        (2, 0.137)
    """
    if sinks < 1 or window < 2 * sinks + 2 or max_windows < 1:
        raise ConfigError(
            f"{sinks} sinks in {max_windows} windows of {window} tokens: there must be at least 1 "
            "of each, and windows of more than twice the sinks"
        )
    longest = getattr(model.config.get_text_config(decoder=True), "max_position_embeddings", None)
    if longest and window > longest:
        raise ConfigError(f"a window of {window} tokens exceeds the context of {longest}")
    size = min(window, len(token_ids))
    if size < 2 * sinks + 2:
        raise ConfigError(
            f"the text has {size} tokens, too few for {sinks} sinks", hint="give a longer text"
        )
    starts = list(range(0, len(token_ids) - size + 1, size))[:max_windows]
    native = str(model.config._attn_implementation)
    found = []
    try:
        model.set_attn_implementation("eager")
        for start in progress.track(starts, total=len(starts), what="sinks", unit="windows"):
            ids = torch.tensor([list(token_ids[start : start + size])], device=model.device)
            found.append(_figures(model, ids, sinks))
    finally:
        model.set_attn_implementation(native)
    even = sum(sinks / seen for seen in range(sinks + 1, size + 1)) / (size - sinks)
    means = torch.stack(found).mean(0)  # (layers, heads, figures)
    heads = [
        HeadFigures(layer, head, mass, even, dormant, drain, peak)
        for layer, rows in enumerate(means.tolist())
        for head, (mass, dormant, drain, peak) in enumerate(rows)
    ]
    return SinkReport(name or type(model).__name__, sinks, size, len(starts), heads)


def _figures(model: PreTrainedModel, ids: Tensor, sinks: int) -> Tensor:
    """Return sink mass, dormant part, value drain and residual peak: (layers, heads, 4)."""
    output = model(input_ids=ids, use_cache=True, output_attentions=True, output_hidden_states=True)
    weights, hidden = output.get("attentions"), output.get("hidden_states")
    layers = getattr(output.get("past_key_values"), "layers", [])
    if not weights or not hidden or any(x is None for x in weights) or len(layers) != len(weights):
        raise UnsupportedModelError(
            f"{type(model).__name__} shows no attention of every layer",
            hint="use a causal language model of plain attention",
        )
    rows = []
    for attention, layer, states in zip(weights, layers, hidden, strict=False):
        values = getattr(layer, "values", None)
        if values is None or values.shape[2] != ids.shape[1]:
            raise UnsupportedModelError(
                f"the cache of {type(model).__name__} holds no plain values"
            )
        given = attention[0, :, sinks:, :sinks].float().sum(-1)  # (heads, queries)
        norms = values[0].float().norm(dim=-1)  # (kv_heads, tokens)
        drain = norms[:, :sinks].mean(-1) / norms[:, sinks:].mean(-1).clamp_min(1e-12)
        sizes = states[0].float().norm(dim=-1)
        peak = sizes[:sinks].max() / sizes[sinks:].median().clamp_min(1e-12)
        group = given.shape[0] // len(drain)
        own = [given.mean(-1), (given > DORMANT).float().mean(-1), drain.repeat_interleave(group)]
        rows.append(torch.stack([*own, peak.expand(given.shape[0])], dim=-1).cpu())
    return torch.stack(rows)
