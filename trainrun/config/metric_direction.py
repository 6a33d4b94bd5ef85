"""Which way is better, for the built-in metrics by name."""

LARGER = ("accuracy", "top5", "f1_macro", "r2")
SMALLER = ("loss", "mae", "rmse", "perplexity", "bits_per_byte")
