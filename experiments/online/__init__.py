"""Learning while a stream runs: gradients forward in time beside truncated backpropagation."""
