"""Worker processes: how they start, what they are held to, and how they end."""
