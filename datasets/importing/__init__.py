"""Checkpoints that others left, found, put in order and made into a trajectory."""
