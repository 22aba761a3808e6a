"""First-party runners: one file per runtime."""
