"""Reference parts and data, registered like those of any plugin."""
