"""Records and summaries as text and JSON: the only place that formats a unit."""
