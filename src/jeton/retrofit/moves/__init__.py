"""Transfer, extend, prune and distil as jobs of their own, each with its certificate."""
