"""The command line: one file per command; only here are errors printed and codes returned."""
