"""Exact values, posteriors and gradients, one kind of answer per file; they never import an estimator."""
