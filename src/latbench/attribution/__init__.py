"""Why two latencies of one model differ. Pure."""
