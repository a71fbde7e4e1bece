"""Whether a forecast is worth using: the method is tried where what came after is known."""
