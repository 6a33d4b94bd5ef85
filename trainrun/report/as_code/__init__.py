"""A composed run as one plain PyTorch script, for learning and for leaving."""
