"""The acts of measuring: run, compare, sweep, plan, explain."""
