"""Install each package of this folder into the running environment and run its tests."""

import subprocess
import sys
from pathlib import Path

for project in sorted(Path(__file__).parent.glob("*/pyproject.toml")):
    folder = str(project.parent)
    subprocess.run([sys.executable, "-m", "pip", "install", "--no-deps", folder], check=True)  # noqa: S603
    subprocess.run([sys.executable, "-m", "pytest", folder], check=True)  # noqa: S603
