"""Attribute the difference of two latencies of one model to factors. This package is pure."""
