"""Forecasts inside one's own training: the weights ahead as tensors, and jumps to them."""
