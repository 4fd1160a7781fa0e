"""The doctor's checks are real: each one fails on a machine that is made to fail it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections import namedtuple
from pathlib import Path
from typing import Any

import pytest

from shuyuan import doctor
from shuyuan.errors import MachineError
from shuyuan.hardware import Hardware, detect
from shuyuan.models.compiled import NotCompiledError, selftest

CPU = Hardware("cpu", "old processor", 4, 8 << 30, ("avx2",))


def found(name: str) -> dict[str, Any]:
    return next(check for check in doctor.examine()["checks"] if check["name"] == name)


def test_the_fields_are_those_of_the_design_and_this_machine_is_well() -> None:
    result = doctor.examine()
    assert set(result) == {"hardware", "precision", "checks"}
    assert set(result["hardware"]) >= {"device", "name", "cores", "memory_bytes", "features"}
    assert result["precision"] in ("bf16", "fp16", "fp32")
    assert all(set(check) == {"name", "ok", "detail"} and check["detail"] for check in result["checks"])
    assert [check for check in result["checks"] if not check["ok"]] == []


def test_a_check_that_crashes_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    def crash() -> str:
        raise OSError("no such luck")

    monkeypatch.setattr(doctor, "disk", crash)
    check = found("disk")
    assert not check["ok"] and "no such luck" in check["detail"]


def test_wrong_arithmetic_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    true = torch.Tensor.__matmul__

    def wrong(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
        product = true(left, right)
        return product * 1.001 if left.dtype == torch.float32 else product

    assert "float64" in doctor.arithmetic(CPU)
    monkeypatch.setattr(torch.Tensor, "__matmul__", wrong)
    with pytest.raises(doctor.UnwellError, match="fp32"):
        doctor.arithmetic(CPU)


def test_arithmetic_is_tested_in_the_chosen_precision() -> None:
    assert "bf16" in doctor.arithmetic(Hardware("cpu", "new", 2, 1 << 33, ("avx512_bf16",)))


def test_wrong_encryption_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    from cryptography.hazmat.primitives.ciphers import aead

    class Careless:
        """A cipher that opens whatever it is given."""

        def __init__(self, key: bytes) -> None: ...

        def encrypt(self, nonce: bytes, data: bytes, beside: bytes) -> bytes:
            return bytes.fromhex(doctor.GCM_SEALED)

        def decrypt(self, nonce: bytes, data: bytes, beside: bytes) -> bytes:
            return bytes.fromhex(doctor.GCM_PLAIN)

    monkeypatch.setattr(aead, "AESGCM", Careless)
    with pytest.raises(doctor.UnwellError, match="changed bit"):
        doctor.encryption()
    monkeypatch.undo()
    monkeypatch.setattr(doctor, "GCM_PLAIN", doctor.GCM_PLAIN[:-2] + "38")
    with pytest.raises(doctor.UnwellError, match="wrong answer"):
        doctor.encryption()


def test_a_full_disk_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(1 << 40, 1 << 40, 1 << 20))
    assert not found("disk")["ok"]


def test_a_cache_folder_that_cannot_be_written_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    check = found("cache folder")
    assert not check["ok"] and "cannot be written" in check["detail"]


@pytest.mark.parametrize("now", [0.0, 4.2e9])
def test_a_clock_that_was_never_set_is_found(now: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time", lambda: now)
    with pytest.raises(doctor.UnwellError, match="clock"):
        doctor.clock()


def test_a_clock_that_disagrees_with_the_disk_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = time.time() + 7200
    monkeypatch.setattr(time, "time", lambda: wrong)
    with pytest.raises(doctor.UnwellError, match="differ"):
        doctor.clock()


def test_little_and_unknown_memory_are_found() -> None:
    for memory in (0, 100 << 20):
        with pytest.raises(doctor.UnwellError):
            doctor.memory(Hardware("cpu", "tiny", 1, memory, ()))


def test_a_missing_library_is_named_with_its_mend(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        doctor.metadata, "requires", lambda _: ["numpy>=1", "no-such-thing>=2", "x ; extra == 'y'"]
    )
    with pytest.raises(doctor.UnwellError, match="pip install no-such-thing"):
        doctor.libraries()


def test_an_old_torch_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.__version__", "2.4.1+cpu")
    with pytest.raises(doctor.UnwellError, match="too old"):
        doctor.torch_version()


def test_an_idle_gpu_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "torch_is_cpu_only", lambda: True)
    monkeypatch.setattr(doctor, "nvidia_gpu", lambda: ("NVIDIA H100", 80 << 30, "9.0"))
    with pytest.raises(doctor.UnwellError, match="lies idle"):
        doctor.device(CPU)


def test_a_gpu_that_torch_cannot_reach_is_found() -> None:
    if detect().device == "cuda":
        pytest.skip("this machine has a GPU")
    with pytest.raises(doctor.UnwellError, match="cannot use NVIDIA H100"):
        doctor.device(Hardware("cuda", "NVIDIA H100", 16, 80 << 30, ("compute_9.0",)))


def test_extras_tell_missing_from_broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "broken_extra.py").write_text("raise ImportError('no libfoo.so')")
    (tmp_path / "sound_extra.py").write_text("")
    monkeypatch.syspath_prepend(str(tmp_path))
    extras = {"a": (("no_such_extra",), "x"), "b": (("broken_extra",), "x"), "c": (("sound_extra",), "x")}
    monkeypatch.setattr(doctor, "EXTRAS", extras)
    assert "pip install 'shuyuan[a]'" in doctor.extra("a")
    with pytest.raises(doctor.UnwellError, match=r"no libfoo\.so"):
        doctor.extra("b")
    assert doctor.extra("c").startswith("ready")
    sys.modules.pop("sound_extra", None)


def test_tensorflow_is_loaded_by_those_who_keep_it_quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("keras")

    def loaded() -> None:
        raise MachineError("machine.other-keras-backend", "Keras is told to run on jax.", mend="Unset it.")

    monkeypatch.setattr(doctor, "keras_library", loaded)
    with pytest.raises(doctor.UnwellError, match="Keras is told to run on jax"):
        doctor.extra("tensorflow")


@pytest.mark.slow
def test_no_library_says_anything_of_its_own() -> None:
    """What native code writes would stand between the lines of `shuyuan doctor`."""
    done = subprocess.run(
        [sys.executable, "-m", "shuyuan", "doctor", "--json"], capture_output=True, text=True, check=False
    )
    assert json.loads(done.stdout)["checks"]
    assert done.stderr == ""


def test_the_extras_are_those_of_the_package() -> None:
    import tomllib

    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
    assert set(doctor.EXTRAS) == set(project["optional-dependencies"]) - {"test", "lint", "docs"}


def test_wrong_products_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Text is then written by torch: no fault, but worth knowing."""

    def wrong(_: object) -> None:
        raise NotCompiledError("its products of int8 are wrong on this processor")

    monkeypatch.setattr(selftest, "check", wrong)
    assert "int8 are wrong" in doctor.compiled()
