"""One forecast made and judged: cells, metrics, tuning."""
