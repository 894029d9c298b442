"""Public contract checks, tiny models and tiny tokenizers."""
