"""Plots and the HTML report, from a result folder alone."""
