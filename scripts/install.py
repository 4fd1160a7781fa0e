"""Makes the virtual environment and installs Shuyuan with what was tested. Needs Python 3.11+ and nothing else.

    python3 scripts/install.py .venv [EXTRA ...]

Without an NVIDIA GPU the CPU build of torch is taken, from a local wheel or from PyTorch's CPU index where either can be
reached, so that a laptop does not download gigabytes of CUDA. SHUYUAN_TORCH_INDEX names another index (a mirror), or
"default" for whatever pip takes by itself. PIP_INDEX_URL and the other PIP_ variables work as always.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import urllib.request
import venv
from pathlib import Path

ROOT = Path(__file__).parents[1]
CONSTRAINTS = ROOT / "constraints.txt"
CPU_INDEX = "https://download.pytorch.org/whl/cpu"
MINIMUM = (3, 11)


def main() -> None:
    """Parses the arguments and installs."""
    if sys.version_info < MINIMUM:
        raise SystemExit(
            f"Python {'.'.join(map(str, MINIMUM))} or newer is needed; this is {sys.version.split()[0]}."
        )
    folder, *extras = sys.argv[1:]
    python = make_environment(Path(folder))
    install_torch(python)
    target = f"{ROOT}[{','.join(extras)}]" if extras else str(ROOT)
    pip(python, "install", "--constraint", str(CONSTRAINTS), "--editable", target)


def make_environment(folder: Path) -> Path:
    """The Python of a virtual environment, made if it is not there."""
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    if not python.exists():
        print(f"Making {folder} ...", flush=True)
        venv.create(folder, with_pip=True, clear=True)
    return python


def install_torch(python: Path) -> None:
    """Installs the tested torch: the CPU build where there is no NVIDIA GPU."""
    pinned = re.search(r"^torch==(\S+)$", CONSTRAINTS.read_text(), re.MULTILINE)
    assert pinned, "constraints.txt pins torch"
    version = pinned[1]
    if installed(python) == version:
        return
    index = os.environ.get("SHUYUAN_TORCH_INDEX", "")
    if not index and shutil.which("nvidia-smi") is None:
        if pip(python, "install", "--no-index", "--no-deps", f"torch=={version}", check=False, quiet=True):
            print("torch: the wheel that lies on this machine", flush=True)
            return  # pip fetches what torch needs together with ours
        index = CPU_INDEX if reachable(CPU_INDEX) else ""
        if not index:
            print(
                "PyTorch's CPU index cannot be reached: taking pip's own choice of torch, which may be large.",
                flush=True,
            )
    if index and index != "default":
        print(f"torch: from {index}", flush=True)
        pip(python, "install", f"torch=={version}", "--index-url", index, "--extra-index-url", own_index())
    else:
        pip(python, "install", f"torch=={version}")


def installed(python: Path) -> str:
    """The version of torch in the environment, without its build tag; empty if there is none."""
    code = "import importlib.metadata as m; print(m.version('torch').split('+')[0])"
    return subprocess.run([python, "-c", code], capture_output=True, text=True, check=False).stdout.strip()


def own_index() -> str:
    """The index that pip would use by itself; it serves what torch needs."""
    return os.environ.get("PIP_INDEX_URL", "https://pypi.org/simple")


def reachable(url: str) -> bool:
    """Whether an index answers within a few seconds."""
    try:
        with urllib.request.urlopen(f"{url}/torch/", timeout=5):
            return True
    except OSError:
        return False


def pip(python: Path, *arguments: str, check: bool = True, quiet: bool = False) -> bool:
    """Runs pip; True if it succeeded."""
    command = [str(python), "-m", "pip", "--disable-pip-version-check", *arguments]
    done = subprocess.run(command, check=False, capture_output=quiet)
    if check and done.returncode:
        raise SystemExit(f"This failed: {' '.join(command)}")
    return done.returncode == 0


if __name__ == "__main__":
    main()
