"""The version of trainrun, which checkpoints, runs and exported models name."""

__version__ = "0.1.0"
