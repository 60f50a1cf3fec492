"""Reference decoders, one per file, registered through the same hooks as anybody's."""
