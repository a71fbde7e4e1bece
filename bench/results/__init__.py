"""Result folders read, ranked and exported."""
