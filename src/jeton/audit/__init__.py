"""Measure a vocabulary."""
