"""Data sets of one's own: a network, its loss and its data, as a plugin gives them."""
