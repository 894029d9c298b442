"""Which model families a cache policy reaches; the others must be refused."""

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from jeton.errors import UnsupportedModelError
from jeton.kv.attached import attach
from jeton.testing.kv_baselines import RandomRows

REACH = [
    "llama",
    "qwen2",
    "qwen3",
    "mistral",
    "gemma",
    "gemma2",
    "gemma3_text",
    "gpt2",
    "gpt_neox",
    "opt",
    "phi",
    "phi3",
    "gptj",
    "bloom",
    "mpt",
    "codegen",
    "xglm",
    "falcon",
    "stablelm",
    "starcoder2",
    "olmo",
    "olmo2",
    "cohere",
    "cohere2",
    "granite",
    "glm",
    "glm4",
    "smollm3",
    "helium",
    "nemotron",
    "gpt_bigcode",
    "biogpt",
    "mamba",
    "olmo3",
    "arcee",
    "ernie4_5",
    "seed_oss",
    "exaone4",
    "persimmon",
]


def is_reached(model_type: str) -> bool:
    """Whether a policy attaches to a tiny model of a type; False when it is cleanly refused."""
    config = AutoConfig.for_model(
        model_type,
        vocab_size=64,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=64,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(config)
    model.eval()
    try:
        with attach(model, RandomRows(budget=16, sinks=1, recent=4)):
            return True
    except UnsupportedModelError:
        return False
