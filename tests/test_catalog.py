"""Hardware by name: what `--on` understands, and what it refuses."""

from __future__ import annotations

from pathlib import Path

import pytest
import tomli_w
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shuyuan.errors import MachineError
from shuyuan.hardware import machines
from shuyuan.hardware.table import MOST, accelerators


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
    own.write_text(f"\ufeff[ours-2]\n{entry}", encoding="utf-8")
    assert machines("ours-2").devices == 1


ENTRY = {
    "name": '"Ours"',
    "memory_gb": "48",
    "fp32": "20",
    "bf16": "80",
    "memory_gb_s": "900",
    "link_gb_s": "50",
    "watts": "250",
}


def own_table(folder: Path, monkeypatch: pytest.MonkeyPatch, text: str | bytes) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(folder))
    (folder / "shuyuan").mkdir(exist_ok=True)
    (folder / "shuyuan/hardware.toml").write_bytes(text if isinstance(text, bytes) else text.encode())


def entry(**changes: str | None) -> str:
    kept = {key: value for key, value in (ENTRY | changes).items() if value is not None}
    return "[ours-1]\n" + "\n".join(f"{key} = {value}" for key, value in kept.items())


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[x", "not TOML"),
        ("x = 3", "x is no table"),
        (entry(name="1"), "[ours-1] name must be"),
        (entry(name='"a\\u001bb"'), "[ours-1] name must be"),
        (entry(memory_gb="0"), "[ours-1] memory_gb = 0 is no number above 0"),
        (entry(memory_gb="-5"), "[ours-1] memory_gb = -5"),
        (entry(watts="nan"), "[ours-1] watts = nan"),
        (entry(fp32="inf"), "[ours-1] fp32 = inf"),
        (entry(fp32="1" + "0" * 400), "[ours-1] fp32 = 1000"),
        (entry(fp32="9" * 5000), "not TOML"),
        (entry(fp32="true"), "[ours-1] fp32 = True"),
        (entry(bf16='"80"'), "[ours-1] bf16 = 80 is no number"),
        (entry(products="1.5"), "[ours-1] products = 1.5 is no number above 0 and at most 1"),
        (entry(fp32=None), "[ours-1] lacks fp32"),
        (entry(bf16=None), "[ours-1] lacks bf16 or fp16"),
        (entry(link_gb_s=None), "[ours-1] lacks link_gb_s"),
        (entry(memory_gbs="3"), "unknown key memory_gbs; did you mean memory_gb"),
        (entry(colour="3"), "unknown key colour; there are name"),
        (entry().replace("ours-1", "cpu"), "[cpu] is no name"),
        (entry().replace("ours-1", '"My Card"'), "[My Card] is no name"),
        (b"\xff\xfe", "cannot be read"),
    ],
)
def test_a_slip_in_ones_own_file_is_named(
    text: str | bytes, said: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    own_table(tmp_path, monkeypatch, text)
    with pytest.raises(MachineError) as caught:
        machines("h100")
    assert caught.value.code == "machine.bad-catalog" and said in caught.value.what
    assert caught.value.where is not None and caught.value.where.endswith("hardware.toml")


def test_a_folder_in_place_of_the_file_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    (tmp_path / "shuyuan/hardware.toml").mkdir(parents=True)
    with pytest.raises(MachineError, match="cannot be read"):
        machines("h100")


scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=8),
    st.lists(st.integers(), max_size=2),
)


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    max_examples=50,
    deadline=None,
)
@given(table=st.dictionaries(st.sampled_from(["name", *MOST, "other"]), scalars, max_size=9))
def test_any_entry_is_whole_or_refused(
    table: dict[str, object], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    own_table(
        tmp_path,
        monkeypatch,
        tomli_w.dumps({"ours-1": {key: value for key, value in table.items() if value is not None}}),
    )
    try:
        found = machines("ours-1:2")
    except MachineError as error:
        assert error.code == "machine.bad-catalog"
    else:
        assert (
            found.devices == 2
            and found.hardware.memory_bytes > 0
            and min(found.rates.matmul_flops.values()) > 0
        )


texts = st.one_of(
    st.text(max_size=20),
    st.builds(
        "{}:{}x{}".format, st.sampled_from(["h100", "cpu", "h10", "v100-32g"]), st.integers(), st.integers()
    ),
    st.builds(lambda digits: "h100:" + "9" * digits, st.integers(0, 6000)),
)


@settings(suppress_health_check=[HealthCheck.too_slow], max_examples=60, deadline=None)
@given(texts)
def test_any_text_is_machines_or_a_clear_refusal(text: str) -> None:
    try:
        found = machines(text)
    except MachineError as error:
        assert (
            error.code in ("machine.unclear-hardware", "machine.unknown-hardware") and len(str(error)) < 1000
        )
    else:
        assert 0 < found.devices <= 1_000_000
