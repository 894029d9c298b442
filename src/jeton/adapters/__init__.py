"""One file per foreign API."""
