"""Claims checked against evidence."""
