"""Published numbers, their conditions, and verdicts on them. Pure."""
