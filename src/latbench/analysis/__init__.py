"""What a record says: pure functions of stored records."""
