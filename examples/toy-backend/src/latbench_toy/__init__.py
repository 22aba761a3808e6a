"""Example backend: executes chains of layers with numpy."""
