"""The examples that recorded networks learn from."""
