"""What forecasts and controls do to training runs of the loop tier, and what is measured."""
