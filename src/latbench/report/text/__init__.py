"""Values as lines for a terminal."""
