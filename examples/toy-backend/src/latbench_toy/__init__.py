"""A backend that executes plain chains of layers with numpy."""
