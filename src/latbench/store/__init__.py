"""The registry of records: tables, queries, migrations."""
