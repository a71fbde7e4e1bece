"""What can be said of methods from their errors on runs: rankings, intervals, tests."""
