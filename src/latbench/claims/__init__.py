"""Published numbers, their conditions and the verdicts on them. This package is pure."""
