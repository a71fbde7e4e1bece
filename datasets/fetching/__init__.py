"""What recorded sets need from packages that others publish."""
