"""Documents built from result dataclasses, shown in a terminal or as one HTML file."""
