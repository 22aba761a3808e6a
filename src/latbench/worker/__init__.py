"""The JSON-lines protocol between the harness and a worker program, both ends."""
