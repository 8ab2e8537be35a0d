"""Figures, each with its input and a baseline of the same run. `make bench` writes results.md."""
