"""Write what kvpress scores and keeps on a tiny seeded model, for tests/unit/test_kv_parity.py.

    E/bin/python recipes/kv/parity.py tests/golden/kv/kvpress.json

E is an environment with kvpress 0.5.5 and transformers below 5.3 (`make bench-kv` builds one). The
model's weights are drawn by numpy, so that both environments have the same ones.
"""

import json
import runpy
import sys
from pathlib import Path

import numpy as np
import torch
from transformers import AutoModelForCausalLM, DynamicCache, LlamaConfig

LENGTH, KEPT = 96, 72
PEER = runpy.run_path(str(Path(__file__).parents[2] / "src/jeton/kv/peer_script.py"))
NAMES = [name for name in PEER["PRESSES"] if name != "random"]


def tiny_model(attention):
    """Return a Llama of two layers, 4 query and 2 key-value heads, with weights of numpy."""
    config = LlamaConfig(
        vocab_size=64,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        max_position_embeddings=256,
    )
    config._attn_implementation = attention
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    generator = np.random.default_rng(0)
    with torch.no_grad():
        for _, parameter in sorted(model.named_parameters()):
            drawn = 0.4 * generator.standard_normal(tuple(parameter.shape))
            parameter.copy_(torch.from_numpy(drawn))
    return model


def text():
    """Return the ids that are read, shape (1, LENGTH)."""
    return torch.from_numpy(np.random.default_rng(1).integers(64, size=(1, LENGTH)))


@torch.inference_mode()
def measure(name):
    """Return the scores and the rows kept of a press, by layer and key-value head."""
    needs_matrix = name == "h2o"
    model = tiny_model("eager" if needs_matrix else "sdpa")
    found = {"scores": [], "kept": []}
    press = PEER["make_press"](name, 1.0 - KEPT / LENGTH)
    inner = press.press if name == "adakv" else press
    native = inner.score

    def score(*args, **kwargs):
        scores = native(*args, **kwargs)
        found["scores"].append(scores[0].double())
        return scores

    inner.score = score
    with press(model):
        model(text(), past_key_values=DynamicCache(), output_attentions=needs_matrix)
    for layer, scores in enumerate(found["scores"]):
        kept = scores.topk(KEPT, dim=-1).indices
        rows = [sorted(head.tolist()) for head in kept]
        if name == "adakv":
            _, heads, masked = model.model.layers[layer].self_attn.masked_key_indices
            dropped = {(int(h), int(row)) for h, row in zip(heads, masked, strict=True)}
            rows = [[r for r in range(LENGTH) if (h, r) not in dropped] for h in range(len(rows))]
        found["kept"].append(rows)
    rounded = [[[float(f"{x:.5g}") for x in h] for h in s.tolist()] for s in found["scores"]]
    return {"scores": rounded, "kept": found["kept"]}


if __name__ == "__main__":
    rows = {name: measure(name) for name in NAMES}
    result = {"source": "recipes/kv/parity.py, kvpress 0.5.5", "presses": rows}
    Path(sys.argv[1]).write_text(json.dumps(result) + "\n", encoding="utf-8")
