"""The machine that this process runs on: facts, conditions, counters."""
