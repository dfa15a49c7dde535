"""What an experiment ran in: Python, packages, device, and the version of the code."""

from __future__ import annotations

import os
import platform
import sys
from importlib import metadata
from typing import Any

from scanloop import __version__


def environment() -> dict[str, Any]:
    """Describe this process. torch is asked for its device only if the process has loaded it."""
    found = {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
        "device": _device(),
        "scanloop_version": __version__,
        "git_commit": os.environ.get("SCANLOOP_GIT_COMMIT", ""),
        "git_repository": os.environ.get("SCANLOOP_GIT_REPOSITORY", ""),
        "image": os.environ.get("SCANLOOP_IMAGE", ""),
        "packages": _packages(),
    }
    return {name: value for name, value in found.items() if value}


def _packages() -> str:
    """Installed packages, as pip would freeze them."""
    names = {distribution.name: distribution.version for distribution in metadata.distributions() if distribution.name}
    return "\n".join(f"{name}=={version}" for name, version in sorted(names.items(), key=lambda pair: pair[0].lower()))


def _device() -> str:
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available():
        return f"cpu {platform.processor() or platform.machine()}"
    return ", ".join(torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count()))
