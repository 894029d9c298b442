"""Bytes, vocabularies, registries and runs; no torch here."""
