"""What is asked for, in all tiers: suites, fits, loop jobs, and the keys of their results."""
