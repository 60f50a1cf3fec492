"""Let what jobs are forked from here load torch alone: enough for trials, and quick."""

from vbench.execute import server

server.PRELOAD = ("torch",)
