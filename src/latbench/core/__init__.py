"""Values and pure functions: no clock, file, process, environment or unseeded randomness."""
