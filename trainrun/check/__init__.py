"""Questions before training: what usually breaks late, asked of a built run."""
