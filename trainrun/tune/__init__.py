"""Searches before the run: the learning-rate finder, the batch finder."""
