"""Datasets, one per file; ``files.py`` finds, fetches and verifies what they read."""
