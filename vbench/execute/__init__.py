"""Where cells run: one fresh process each, under a supervisor that says how every one of them ended."""
