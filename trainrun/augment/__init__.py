"""Random changes to training samples; samples that are evaluated never change."""
