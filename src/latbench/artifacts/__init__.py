"""Exported files: made, checked, cached."""
