"""The networks that recipes train."""
