"""What is measured of a model and an estimator: gradients, likelihood, diagnostics and speed.

Every measure returns a list of :class:`~vbench.measure.measurement.Measurement`; step and split are the
caller's. Nothing here trains a model or writes a record, and no global random state is touched.
"""
