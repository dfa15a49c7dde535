"""Check that the torch that was installed is of the wanted kind, and that the locks hold what it needs.

    python check_torch.py VARIANT

torch is installed without its dependencies, so that only torch itself comes from the index that is trusted for it. A site that takes another build
of torch than the locks were made for learns here, and not in the first training, what that build needs beside them. Exit code 64 if not.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires, version

from packaging.requirements import Requirement


def unmet(package: str, extras: frozenset[str] = frozenset(), seen: set[tuple[str, frozenset[str]]] | None = None) -> Iterator[str]:
    """What `package` with `extras` requires here and is not installed in a fitting version, through all that it requires."""
    seen = set() if seen is None else seen
    if (package, extras) in seen:
        return
    seen.add((package, extras))
    for line in requires(package) or ():
        wanted = Requirement(line)
        if wanted.marker is not None and not any(wanted.marker.evaluate({"extra": extra}) for extra in extras | {""}):
            continue
        try:
            found = version(wanted.name)
        except PackageNotFoundError:
            yield f"{package} needs {wanted}, which is not locked"
            continue
        if not wanted.specifier.contains(found, prereleases=True):
            yield f"{package} needs {wanted}, and {found} is locked"
            continue
        yield from unmet(wanted.name, frozenset(wanted.extras), seen)


def main(variant: str) -> None:
    """Say what is wrong, if anything is."""
    import torch

    cuda = torch.version.cuda
    if variant not in ("cpu", "cuda"):
        wrong = [f"VARIANT is cuda or cpu, not {variant!r}."]
    elif (cuda is not None) != (variant == "cuda"):
        kind = f"a build for CUDA {cuda}" if cuda else "a CPU build"
        wrong = [f"VARIANT={variant}, and torch {torch.__version__} is {kind}. Name the index that has the other in TORCH_INDEX_URL."]
    else:
        wrong = list(unmet("torch"))
        if wrong:
            wrong.append("Lock images/train/requirements-cuda.txt and requirements-nvcc.txt for your build of torch: see docs/images.md.")
    if wrong:
        print("\n".join(wrong), file=sys.stderr)
        raise SystemExit(64)
    print(f"torch {torch.__version__}, CUDA {cuda or 'none'}: all that it needs is there.")


if __name__ == "__main__":
    main(sys.argv[1])
