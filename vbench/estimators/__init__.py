"""Gradient estimators: four rules and their controls, and one file for each registered method.

Rules (``pathwise``, ``doubly``, ``score``) turn a bound into a surrogate; a method (``iwae``, ``vimco``, ...) names a
rule applied to a bound. All objectives are ascended and in nats per datum.
"""
