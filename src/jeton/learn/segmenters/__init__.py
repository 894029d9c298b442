"""One file per segmenter; see the registry."""
