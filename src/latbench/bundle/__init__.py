"""Bundles of evidence that another machine verifies offline."""
