"""The loop tier: training with forecasts in it, its costs and its verdicts."""
