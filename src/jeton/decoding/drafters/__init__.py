"""One file per drafter; see the registry."""
