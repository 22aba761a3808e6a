"""Alembic's folder; ``versions`` holds one step a file."""
