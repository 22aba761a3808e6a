"""devices.yaml, and what this machine is."""
