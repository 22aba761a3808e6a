"""Conformance of workers: does a program keep to ``docs/PROTOCOL.md``?

It is checked from outside, over its command line, whatever language it is written in. Nothing here
is part of a measurement.
"""
