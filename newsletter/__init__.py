"""A newsletter publishing pipeline: content in, issues out, each delivered exactly once."""

__version__ = "0.1.0"
