"""What takes the room in an image: the biggest distributions of an environment.

    .venv/jobs/bin/python images/sizes.py /opt/scanloop

Prints MB of the whole environment and of its fifteen biggest distributions, by the files that each one's record names.
"""

from __future__ import annotations

import sys
from importlib.metadata import Distribution, distributions
from pathlib import Path

MOST = 15


def size_mb(distribution: Distribution) -> float:
    """Megabytes of a distribution's files."""
    paths = [Path(str(distribution.locate_file(name))) for name in distribution.files or ()]
    return sum(path.stat().st_size for path in paths if path.is_file()) / 1e6


def main(environment: Path) -> None:
    """Print the table."""
    packages = next((environment / "lib").glob("python3*/site-packages"))
    found = {one.name: size_mb(one) for one in distributions(path=[str(packages)])}
    whole = sum(path.stat().st_size for path in environment.rglob("*") if path.is_file() and not path.is_symlink()) / 1e6
    print(f"{whole:8.0f} MB  {environment}")
    for name, size in sorted(found.items(), key=lambda item: -item[1])[:MOST]:
        print(f"{size:8.0f}     {name}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
