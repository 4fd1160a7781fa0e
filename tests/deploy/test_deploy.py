"""The ready files for clusters: as far as a dry run without a cluster goes."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from torch.distributed.run import get_args_parser

from shuyuan.cli import app

ROOT = Path(__file__).parents[2]
SLURM, KUBERNETES = ROOT / "deploy/slurm.sh", ROOT / "deploy/kubernetes.yaml"
# Of sbatch's manual, https://slurm.schedmd.com/sbatch.html
SBATCH = {
    "job-name", "nodes", "ntasks-per-node", "gpus-per-node", "cpus-per-task", "time", "signal", "requeue", "open-mode", "output",
}  # fmt: skip
GIVEN = {"SLURM_JOB_NODELIST", "SLURM_NNODES", "SLURM_GPUS_ON_NODE", "SLURM_JOB_ID"}


def torchrun(arguments: list[str]) -> Any:
    """The arguments as torchrun reads them; unknown ones end the test."""
    options = get_args_parser().parse_args(arguments)
    assert options.module and options.training_script == "shuyuan"
    verb = options.training_script_args[0]
    assert verb in {command.name for command in app.registered_commands}
    return options


def test_the_batch_script_is_one() -> None:
    assert subprocess.run(["bash", "-n", SLURM], check=False).returncode == 0
    lines = SLURM.read_text().splitlines()
    assert lines[0] == "#!/bin/bash"
    options = [
        re.fullmatch(r"#SBATCH --([a-z-]+)(=\S+)?", line) for line in lines if line.startswith("#SBATCH")
    ]
    assert options and all(option and option[1] in SBATCH for option in options)
    first_command = next(number for number, line in enumerate(lines) if line and not line.startswith("#"))
    assert not any(line.startswith("#SBATCH") for line in lines[first_command:])  # Slurm stops reading there
    assert set(re.findall(r"SLURM_\w+", "\n".join(lines))) == GIVEN


def test_the_batch_script_starts_torchrun_as_it_says(tmp_path: Path) -> None:
    """With stand-ins for Slurm's commands, which print what they are given."""
    for name, body in {"scontrol": "printf 'one\\ntwo\\n'", "srun": 'printf "%s\\n" "$@"'}.items():
        (tmp_path / name).write_text(f"#!/bin/bash\n{body}\n")
        (tmp_path / name).chmod(0o755)
    env = dict.fromkeys(GIVEN, "2") | {"PATH": f"{tmp_path}:/usr/bin:/bin"}
    done = subprocess.run(
        ["bash", SLURM, "my run"], env=env, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    srun, command, *arguments = done.stdout.splitlines()
    assert (srun, command) == ("--kill-on-bad-exit=1", "torchrun")
    options = torchrun(arguments)
    assert (options.nnodes, options.nproc_per_node, options.rdzv_endpoint) == ("2", "2", "one:29500")
    assert options.training_script_args == ["train", "my run"]
    without = subprocess.run(["bash", SLURM], env=env, capture_output=True, check=False, timeout=60)
    assert without.returncode != 0 and b"Name a run folder or a recipe" in without.stderr


def test_the_job_set_has_what_its_schema_asks_for() -> None:
    yaml = pytest.importorskip("yaml")
    job_set = yaml.safe_load(KUBERNETES.read_text())
    assert (job_set["apiVersion"], job_set["kind"]) == ("jobset.x-k8s.io/v1alpha2", "JobSet")
    name = job_set["metadata"]["name"]
    assert set(job_set["spec"]) == {"network", "failurePolicy", "replicatedJobs"}
    (ranks,) = job_set["spec"]["replicatedJobs"]
    assert set(ranks) == {"name", "replicas", "template"}
    job = ranks["template"]["spec"]
    assert set(job) == {"parallelism", "completions", "completionMode", "backoffLimit", "template"}
    assert job["parallelism"] == job["completions"] and job["completionMode"] == "Indexed"
    pod = job["template"]["spec"]
    assert pod["restartPolicy"] in ("Never", "OnFailure")  # all that a job may say
    (container,) = pod["containers"]
    assert {"name", "image", "command", "args"} <= set(container)
    assert {mount["name"] for mount in container["volumeMounts"]} == {
        volume["name"] for volume in pod["volumes"]
    }
    arguments = [word.replace("$(JOB_COMPLETION_INDEX)", "1") for word in container["args"]]
    options = torchrun(arguments)
    assert (options.nnodes, options.node_rank) == (str(job["completions"]), 1)
    # A pod's name in a job set is NAME-JOB-REPLICA-INDEX, in a domain of the job set's name.
    assert options.master_addr == f"{name}-{ranks['name']}-0-0.{name}"
    assert options.master_port == container["ports"][0]["containerPort"]
    gpus = container["resources"]["limits"]["nvidia.com/gpu"]
    assert options.nproc_per_node == str(gpus)
