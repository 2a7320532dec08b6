"""e6tag: learn the tags of a booru, then tag, search and sort illustrations."""

__version__ = "0.1.0"
