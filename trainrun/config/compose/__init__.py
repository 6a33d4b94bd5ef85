"""From command-line words to plain settings; only here are Hydra and OmegaConf known."""
