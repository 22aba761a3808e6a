"""The clock, the worker program and the conversation with it."""
