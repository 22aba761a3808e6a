"""Helpers that tests share: records, claims, models, files, stand-ins and environments."""
