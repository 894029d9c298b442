"""Learn a vocabulary from text."""
