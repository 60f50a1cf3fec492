"""vbench: a plugin-based benchmark of variational objectives.

Public names load on first use, so that ``import vbench`` and the command line stay fast.
"""
