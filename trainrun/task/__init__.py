"""What is learned: from a model and a batch to sums of losses and of metrics."""
