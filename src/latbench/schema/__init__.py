"""What is stored and sent: records, requests, protocols, and how they are encoded. Pure."""
