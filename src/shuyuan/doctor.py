"""What this machine can do, what is missing, and self-tests: every check does the thing that it speaks of."""

from __future__ import annotations

import importlib
import importlib.util
import platform
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from .errors import ShuyuanError
from .hardware import Hardware, cache_folder, choose_precision, detect
from .hardware.facts import nvidia_gpu, torch_is_cpu_only
from .models.keras_library import keras_library
from .sizes import size

EXTRAS = {  # extra: (modules that it brings, what they are for)
    "huggingface": (("datasets", "transformers"), "hf: sources"),
    "parquet": (("pyarrow",), ".parquet sources"),
    "zstd": (("zstandard",), ".zst sources"),
    "presidio": (("presidio_analyzer",), "masking of names"),
    "images": (("sklearn",), "the built-in source digits"),
    "tasks": (("rouge_score", "sacrebleu"), "scores of translations, summaries and chats"),
    "tensorflow": (("keras", "tensorflow"), "the family rnn"),
    "serve": (("fastapi", "limits", "prometheus_client", "uvicorn"), "the server"),
    "export": (("gguf", "onnxscript"), "files for llama.cpp and ONNX"),
}
OLDEST_TORCH = (2, 10)
LEAST_DISK = 2 * 10**9  # a small sealed run with its checkpoints, and room to breathe
LEAST_MEMORY = 10**9  # torch alone takes a quarter of it
SANE_YEARS = (2025, 2100)
# Case 16 of McGrew and Viega, "The Galois/Counter Mode of Operation": AES-256-GCM with associated data.
GCM_KEY = "feffe9928665731c6d6a8f9467308308" * 2
GCM_NONCE = "cafebabefacedbaddecaf888"
GCM_PLAIN = (
    "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72"
    "1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b39"
)
GCM_BESIDE = "feedfacedeadbeeffeedfacedeadbeefabaddad2"
GCM_SEALED = (
    "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa"
    "8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f66276fc6ece0f4e1768cddf8853bb2d551b"
)


@dataclass(frozen=True)
class Check:
    """One check: `ok` means that there is nothing to mend, `detail` says what was found or how to mend it."""

    name: str
    ok: bool
    detail: str


class UnwellError(Exception):
    """A check failed; the text says what was found and how to mend it."""


def examine() -> dict[str, Any]:
    """Looks the machine over.

    Returns:
        {hardware: {device, name, cores, memory_bytes, features}, precision, checks: [{name, ok, detail}]}, as
        `shuyuan doctor --json` prints it. An optional library that is not there is no fault: `ok` stays True and the
        detail says how to install it.
    """
    hardware = detect()
    checks: list[tuple[str, Callable[[], str]]] = [
        ("python", python),
        ("libraries", libraries),
        ("torch", torch_version),
        ("device", lambda: device(hardware)),
        ("arithmetic", lambda: arithmetic(hardware)),
        ("compiled text", compiled),
        ("encryption", encryption),
        ("memory", lambda: memory(hardware)),
        ("disk", disk),
        ("temporary folder", lambda: writable(Path(tempfile.gettempdir()))),
        ("cache folder", lambda: writable(cache_folder())),
        ("clock", clock),
    ]
    checks += [(f"extra {name}", lambda name=name: extra(name)) for name in EXTRAS]  # type: ignore[misc]
    return {
        "hardware": hardware.to_json(),
        "precision": choose_precision("auto", hardware),
        "checks": [asdict(_look(name, check)) for name, check in checks],
    }


def _look(name: str, check: Callable[[], str]) -> Check:
    """Runs one check. Whatever it raises is a finding: a doctor does not fall ill of its patients."""
    try:
        return Check(name, True, check())
    except UnwellError as finding:
        return Check(name, False, str(finding))
    except Exception as error:
        what = error.what if isinstance(error, ShuyuanError) else error
        return Check(name, False, f"{type(error).__name__}: {what}")


# ---- the checks: each returns what it found, or raises -------------------------------------------------------------


def python() -> str:
    """Python is new enough, and 64-bit."""
    if sys.version_info < (3, 11) or sys.maxsize < 2**32:
        raise UnwellError(f"Python {platform.python_version()}: Shuyuan needs a 64-bit Python 3.11 or newer.")
    return f"Python {platform.python_version()} on {platform.system()} {platform.machine()}"


def libraries() -> str:
    """Every library that Shuyuan requires is installed."""
    requirements = [line for line in metadata.requires("shuyuan") or [] if "extra ==" not in line]
    names = [re.split(r"[^A-Za-z0-9._-]", line, maxsplit=1)[0] for line in requirements]
    missing = [name for name in names if not _installed(name)]
    if missing:
        raise UnwellError(f"Missing: {', '.join(missing)}. Install with: pip install {' '.join(missing)}")
    return f"{len(names)} installed"


def torch_version() -> str:
    """PyTorch loads, and is new enough."""
    import torch

    version = tuple(int(part) for part in torch.__version__.split("+")[0].split(".")[:2])
    if version < OLDEST_TORCH:
        raise UnwellError(f"torch {torch.__version__} is too old. Upgrade with: pip install 'torch>=2.10'")
    return f"torch {torch.__version__}, {torch.get_num_threads()} threads"


def device(hardware: Hardware) -> str:
    """The device that plans count on can be used; a GPU that lies idle is found."""
    import torch

    if hardware.device == "cuda":
        if not torch.cuda.is_available():
            raise UnwellError(f"torch cannot use {hardware.name}. Check the driver with nvidia-smi.")
        return f"{hardware.name}, CUDA {torch.version.cuda}"
    idle = nvidia_gpu() if torch_is_cpu_only() else None
    if idle:
        raise UnwellError(
            f"{idle[0]} lies idle: torch is built without CUDA. Install the build from pytorch.org that has it."
        )
    return f"{hardware.name}, {hardware.cores} cores"


def arithmetic(hardware: Hardware) -> str:
    """Matrix products agree with float64 as closely as their format allows, in every format that training uses here."""
    import torch

    chosen = choose_precision("auto", hardware)
    formats = {"fp32": (torch.float32, 1e-5), "fp16": (torch.float16, 2e-3), "bf16": (torch.bfloat16, 1e-2)}
    found = []
    with torch.no_grad():
        for name in dict.fromkeys(("fp32", chosen)):
            dtype, allowed = formats[name]
            random = torch.Generator().manual_seed(1)
            left, right = (
                torch.randn(192, 192, generator=random).to(hardware.device, dtype) for _ in range(2)
            )
            exact = left.double() @ right.double()
            error = float(((left @ right).double() - exact).norm() / exact.norm())
            if not error <= allowed:
                raise UnwellError(
                    f"{name} products are wrong by {error:.1e} of their size; at most {allowed:.0e} is sound."
                )
            found.append(f"{name} within {error:.0e}")
    return ", ".join(found) + " of float64"


def compiled() -> str:
    """Compiles what writes text, and tries its products; torch does the same work, only slower."""
    from .models.compiled import NotCompiledError, library, selftest

    try:
        selftest.check(library())
    except NotCompiledError as error:
        return f"text is written by torch, several times slower: {error}"
    return "text is written by a function compiled for this processor; its products of all kinds are right"


def encryption() -> str:
    """AES-256-GCM gives the published answer, opens it again, and refuses it with one bit changed."""
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    key, nonce, plain, beside, sealed = map(
        bytes.fromhex, (GCM_KEY, GCM_NONCE, GCM_PLAIN, GCM_BESIDE, GCM_SEALED)
    )
    cipher = AESGCM(key)
    if cipher.encrypt(nonce, plain, beside) != sealed or cipher.decrypt(nonce, sealed, beside) != plain:
        raise UnwellError(
            "AES-256-GCM gives a wrong answer. Reinstall with: pip install --force-reinstall cryptography"
        )
    try:
        cipher.decrypt(nonce, bytes([sealed[0] ^ 1]) + sealed[1:], beside)
    except InvalidTag:
        return "AES-256-GCM gives the published answer and refuses a changed bit"
    raise UnwellError(
        "AES-256-GCM accepted a changed bit. Reinstall with: pip install --force-reinstall cryptography"
    )


def memory(hardware: Hardware) -> str:
    """There is memory to train anything at all, and it is known how much."""
    if not hardware.memory_bytes:
        raise UnwellError("The amount of memory is unknown on this system, so plans cannot tell what fits.")
    found = size(hardware.memory_bytes)
    if hardware.memory_bytes < LEAST_MEMORY:
        raise UnwellError(f"{found} is too little; the smallest run takes {size(LEAST_MEMORY)}.")
    return found


def disk() -> str:
    """The current folder's disk has room for a run."""
    free = shutil.disk_usage(Path.cwd()).free
    if free < LEAST_DISK:
        raise UnwellError(
            f"{size(free)} free here; make room for at least {size(LEAST_DISK)}, or work on another disk."
        )
    return f"{size(free)} free here"


def writable(folder: Path) -> str:
    """A file can be written in the folder and read back."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"shuyuan")
            file.seek(0)
            whole = file.read() == b"shuyuan"
    except OSError as error:
        raise UnwellError(f"{folder} cannot be written ({error.strerror}).") from None
    if not whole:
        raise UnwellError(f"{folder} gave back other bytes than were written.")
    return str(folder)


def clock() -> str:
    """The clock stands in a sane year and agrees with the disk's."""
    now = time.time()
    year = time.gmtime(now).tm_year
    if not SANE_YEARS[0] <= year < SANE_YEARS[1]:
        raise UnwellError(f"The clock says {year}. Set it: logs and keys carry the date.")
    with tempfile.NamedTemporaryFile() as file:
        gap = abs(Path(file.name).stat().st_mtime - now)
    if gap > 300:
        raise UnwellError(f"The clock and the temporary folder's differ by {gap:.0f} s. Set the clock.")
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(now))


def extra(name: str) -> str:
    """An optional library loads, or is not there at all; one that is there and does not load is a fault."""
    modules, purpose = EXTRAS[name]
    mend = f"pip install 'shuyuan[{name}]'"
    absent = [module for module in modules if importlib.util.find_spec(module) is None]
    if absent:
        return f"not installed; for {purpose}: {mend}"
    for module in modules:
        try:
            keras_library() if module == "keras" else importlib.import_module(module)
        except Exception as error:
            what = error.what if isinstance(error, ShuyuanError) else error
            raise UnwellError(
                f"{module} is installed but does not load ({what}). Mend with: {mend}"
            ) from None
    return f"ready: {purpose}"


def _installed(name: str) -> bool:
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return True
