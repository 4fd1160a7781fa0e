"""Hardware by name: what `--on` understands, and what it refuses."""

from __future__ import annotations

from pathlib import Path

import pytest

from shuyuan.errors import MachineError
from shuyuan.hardware import machines
from shuyuan.hardware.catalog import accelerators


@pytest.mark.parametrize(
    ("text", "nodes", "each"),
    [
        ("h100", 1, 1),
        ("h100:8", 1, 8),
        ("A100-80G:64x8", 64, 8),
        (" rtx4090 : 2 ", 1, 2),
        ("b200:9x72", 9, 72),
    ],
)
def test_so_many_of_a_name(text: str, nodes: int, each: int) -> None:
    found = machines(text)
    assert (found.nodes, found.each, found.devices) == (nodes, each, nodes * each)
    assert found.hardware.device == "cuda" and found.accelerator is not None
    assert found.hardware.memory_bytes == found.accelerator.memory_bytes
    reached = found.rates.matmul_flops["fp16"] / found.accelerator.flops["fp16"]
    assert reached == pytest.approx(found.accelerator.products) and not found.rates.measured


def test_cores() -> None:
    found = machines("cpu:32")
    assert (found.hardware.device, found.hardware.cores, found.devices) == ("cpu", 32, 1)
    assert found.accelerator is None


@pytest.mark.parametrize(
    ("text", "near"),
    [("h10", "h100"), ("a100", "a100-40g or a100-80g"), ("v100:8", "v100-32g"), ("rtx-4090", "rtx4090")],
)
def test_an_unknown_name_gets_the_nearest_known_one(text: str, near: str) -> None:
    with pytest.raises(MachineError, match=near):
        machines(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":8",
        "h100:0",
        "h100:-1",
        "h100:0x8",
        "h100:8x",
        "h100:1.5",
        "cpu:2x4",
        "h100:" + "9" * 30,
        "h100 8",
    ],
)
def test_numbers_that_make_no_sense(text: str) -> None:
    with pytest.raises(MachineError, match="not understood"):
        machines(text)


def test_every_entry_is_plausible() -> None:
    """Half precision is no slower than float32, and the memory could be read in under a second."""
    for entry in accelerators().values():
        half = max(rate for name, rate in entry.flops.items() if name != "fp32")
        assert 1e12 < entry.flops["fp32"] < half < 1e16, entry.key
        assert 10e9 < entry.memory_bytes < 1e12 and entry.memory_bytes < entry.memory_bytes_per_second, (
            entry.key
        )
        assert 0.3 < entry.products < 0.95
        assert entry.link_bytes_per_second < entry.memory_bytes_per_second and 50 < entry.watts < 2000, (
            entry.key
        )


def test_a_v100_has_no_bf16() -> None:
    assert "bf16" not in machines("v100-32g").rates.matmul_flops


def test_a_file_of_ones_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    (tmp_path / "shuyuan").mkdir()
    own = tmp_path / "shuyuan/hardware.toml"
    entry = 'name = "Ours"\nmemory_gb = 48\nfp32 = 20\nbf16 = 80\nmemory_gb_s = 900\nlink_gb_s = 50\nwatts = 250\n'
    own.write_text(f"[ours-1]\n{entry}[h100]\n{entry}")
    assert machines("ours-1:4").hardware.name == "Ours"
    assert machines("h100").hardware.name == "Ours"
    for broken in (
        "[x",
        "[x]\nname = 1",
        f"[x]\n{entry}".replace("= 48", "= 0"),
        "x = 3",
        f"[x]\n{entry}".replace("fp32 = 20\n", ""),
    ):
        own.write_text(broken)
        with pytest.raises(MachineError, match=r"hardware\.toml"):
            machines("h100")
