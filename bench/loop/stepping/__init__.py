"""Networks of the loop tier in training: many runs of one recipe, step by step."""
