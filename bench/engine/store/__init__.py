"""The result store: its tables, what may stand in them, and how readers look at it."""
