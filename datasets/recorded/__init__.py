"""The recorded data sets, and what trains and writes their runs."""
