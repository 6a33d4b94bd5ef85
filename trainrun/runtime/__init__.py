"""The machine: device, threads, determinism, compilation, signals and the batch system."""
