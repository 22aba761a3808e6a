"""First-party exporters: one file per format."""
