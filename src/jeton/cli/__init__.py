"""The command line: one file per verb, each of them parse, call, print."""

from jeton.cli.app import main

__all__ = ["main"]
