"""The former place of pretraining/main.py, which this runs; it goes with the next version."""

import runpy
from pathlib import Path

runpy.run_path(
    str(Path(__file__).resolve().parents[1] / "pretraining/main.py"), run_name="__main__"
)
