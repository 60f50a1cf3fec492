"""Before anything loads torch: one thread for each process, since tests run several at once."""

import os

for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(name, "1")  # workers and commands that tests start inherit it
