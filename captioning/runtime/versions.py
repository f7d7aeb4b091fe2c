"""Versions of what a result depends on, for its record."""

import platform
import sys
from importlib import metadata


def installed() -> dict[str, str]:
    """Versions of what a result depends on, for its record, and which backend computed it."""
    import keras

    names = ("keras", "tensorflow", "jax", "torch", "numpy", "pillow", "h5py")
    installed = {d: metadata.version(d) for d in names if _is_installed(d)}
    where = {"python": platform.python_version(), "platform": sys.platform}
    return where | {"backend": keras.backend.backend()} | installed


def _is_installed(name: str) -> bool:
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return True
