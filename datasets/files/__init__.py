"""Trajectories on disk: layouts, importing, writing files whole."""
