"""What people read, made from records only, never from a model."""
