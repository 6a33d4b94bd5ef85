"""Sweeps: which points are tried, their jobs and folders, and how they rank."""

from trainrun.sweep.sweep import Sweep

__all__ = ["Sweep"]
