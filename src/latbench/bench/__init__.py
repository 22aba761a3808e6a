"""Measurements: run, compare, sweep, plan and explain."""
