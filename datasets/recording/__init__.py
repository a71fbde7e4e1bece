"""Recording a training loop while it runs."""
