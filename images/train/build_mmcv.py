"""Install onedl-mmcv with its compiled operators; compile once per torch, Python and machine type, then reuse the wheel.

The wheel is kept in $SCANLOOP_CACHE (default: ~/.cache/scanloop). Compiling takes 10 to 20 minutes on two cores.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

VERSION = "2.3.6"


def wheel_folder() -> Path:
    """Where the wheel for this torch, Python and machine type is kept."""
    import torch

    cache = Path(os.environ.get("SCANLOOP_CACHE") or Path.home() / ".cache" / "scanloop")
    python = f"cp{sys.version_info.major}{sys.version_info.minor}"
    return cache / "wheels" / f"mmcv{VERSION}-torch{torch.__version__}-{python}-{platform.machine()}"


def installed() -> bool:
    """Whether the operators are there and load."""
    check = f"import mmcv, mmcv.ops; raise SystemExit(mmcv.__version__ != {VERSION!r})"
    return subprocess.run([sys.executable, "-c", check], capture_output=True, check=False).returncode == 0


def compile_wheel(folder: Path) -> None:
    """Compile the operators into `folder`, showing how far it is."""
    if shutil.which(os.environ.get("CXX", "g++")) is None and shutil.which("c++") is None:
        sys.exit("A C++ compiler is needed to compile the detector's operators. Install g++ and run again.")
    command = [sys.executable, "-m", "pip", "wheel", "-v", "--no-cache-dir", "--no-build-isolation", "--no-deps", f"onedl-mmcv=={VERSION}"]
    jobs = str(max(1, len(os.sched_getaffinity(0))))
    environment = os.environ | {"MAX_JOBS": jobs, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "MMCV_WITH_OPS": "1"}
    log = folder.parent / "mmcv-build.log"
    folder.parent.mkdir(parents=True, exist_ok=True)
    print(f"Compiling the detector's operators, once for this machine (10 to 20 minutes on two cores). Log: {log}", flush=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch, log.open("w") as output:
        process = subprocess.Popen(
            [*command, "-w", scratch], env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
        )
        shown = -1
        for line in process.stdout or ():
            output.write(line)
            counted = re.search(r"\[(\d+)/(\d+)\]", line)
            if counted and (percent := 100 * int(counted[1]) // int(counted[2])) // 5 > shown:
                shown = percent // 5
                print(f"  {percent:3d} %  ({counted[1]} of {counted[2]} files)", flush=True)
        if process.wait() != 0:
            sys.exit(f"Compiling failed; the end of {log} says why:\n" + "".join(log.read_text().splitlines(keepends=True)[-15:]))
        wheel = next(Path(scratch).glob("onedl_mmcv-*.whl"))
        folder.mkdir(parents=True, exist_ok=True)
        wheel.replace(folder / wheel.name)


def main() -> None:
    """Install from the kept wheel, compiling it first if there is none."""
    if installed():
        return
    folder = wheel_folder()
    if not list(folder.glob("*.whl")):
        compile_wheel(folder)
    wheel = next(folder.glob("*.whl"))
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--force-reinstall", str(wheel)], check=True)
    if not installed():
        wheel.unlink()
        sys.exit(f"The operators in {wheel} do not load; the wheel was removed. Run again to compile anew.")


if __name__ == "__main__":
    main()
