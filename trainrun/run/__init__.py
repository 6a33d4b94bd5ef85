"""A run as a folder: its place, owner, status, records and provenance."""
