"""Two machines that train together, each in a network namespace of its own, and a cable between them."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from shuyuan.train.distributed import SILENCE

from ..runs import write_recipe
from .test_torchrun import PATIENCE, events, wait_for_step

pytestmark = pytest.mark.slow
STEPS = 60


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, timeout=60)


@dataclass
class Hosts:
    """Two hosts with the addresses 10.213.0.1 and 10.213.0.2."""

    names: tuple[str, str] = (f"shuyuan-{os.getpid()}-0", f"shuyuan-{os.getpid()}-1")
    agents: list[subprocess.Popen[str]] = field(default_factory=list)

    def build(self) -> None:
        for name in self.names:
            ip("netns", "add", name)
        one, other = self.names
        ip("link", "add", "cable", "netns", one, "type", "veth", "peer", "name", "cable", "netns", other)
        for number, name in enumerate(self.names, start=1):
            ip("-n", name, "address", "add", f"10.213.0.{number}/24", "dev", "cable")
            for device in ("lo", "cable"):
                ip("-n", name, "link", "set", device, "up")

    def remove(self) -> None:
        for agent in self.agents:
            if agent.poll() is None:
                agent.terminate()
            try:
                agent.communicate(timeout=PATIENCE)
            except subprocess.TimeoutExpired:
                agent.kill()
        for name in self.names:
            subprocess.run(["ip", "netns", "delete", name], capture_output=True, timeout=60, check=False)

    def cable(self, state: str) -> None:
        """Up or down."""
        ip("-n", self.names[0], "link", "set", "cable", state)

    def start(self, recipe: Path, out: Path) -> None:
        """torchrun on each, as deploy/slurm.sh starts it."""
        for number, name in enumerate(self.names):
            command = [
                "ip", "netns", "exec", name, sys.executable, "-m", "torch.distributed.run",
                "--nnodes=2", "--nproc-per-node=1", "--max-restarts=3", "--rdzv-id=hosts", "--rdzv-backend=c10d",
                "--rdzv-endpoint=10.213.0.1:29500", f"--rdzv-conf=is_host={int(number == 0)}",
                f"--local-addr=10.213.0.{number + 1}",
                "-m", "shuyuan", "train", str(recipe), "--out", str(out),
            ]  # fmt: skip
            self.agents.append(
                subprocess.Popen(
                    command,
                    env=os.environ | {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "cable"},
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.PIPE,
                    text=True,
                )
            )

    def ended(self) -> tuple[list[str], list[bool]]:
        """What they said, and whether they ended well."""
        said = [agent.communicate(timeout=PATIENCE)[1] for agent in self.agents]
        well = [agent.returncode == 0 for agent in self.agents]
        self.agents.clear()
        return said, well


@pytest.fixture
def hosts() -> Iterator[Hosts]:
    made = Hosts()
    try:
        made.build()
    except (OSError, subprocess.CalledProcessError) as error:
        made.remove()
        pytest.skip(f"network namespaces cannot be made here ({error})")
    yield made
    made.remove()


def test_two_hosts_notice_a_cut_cable_and_go_on_when_they_are_started_anew(
    hosts: Hosts, tmp_path: Path
) -> None:
    """Both notice, though one of them only waits. torchrun's own processes lose each other too, and end; Slurm or a JobSet starts them anew."""
    recipe, out = write_recipe(tmp_path, steps=STEPS), tmp_path / "run"
    hosts.start(recipe, out)
    wait_for_step(out, 10, hosts.agents[0])
    hosts.cable("down")
    time.sleep(SILENCE + 15)
    hosts.cable("up")
    said, well = hosts.ended()
    assert all("of 2 has lost the others" in each and "train.rank-lost" in each for each in said), said
    assert well == [False, False]
    hosts.start(recipe, out)
    said, well = hosts.ended()
    assert well == [True, True], said
    starts = events(out, "train.start")
    assert [(line["ranks"], line["resumed"]) for line in starts] == [(2, False), (2, True)]
    assert starts[1]["step"] >= 10 and events(out, "train.end")[0]["step"] == STEPS
