"""The command line's settings: words -> composed -> checked; knows no torch."""
