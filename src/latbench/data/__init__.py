"""Data files that are part of the product."""
