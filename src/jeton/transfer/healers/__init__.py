"""One file per healer; see the registry."""
