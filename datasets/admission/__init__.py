"""What a data set must pass: gates, lineage, identity of its bytes."""
