"""The demo: real pictures, a local booru that serves them, and the pipeline on it."""
