"""Result dataclasses as a terminal table, JSON or one HTML file."""
