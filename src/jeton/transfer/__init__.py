"""Move a model onto another vocabulary."""
