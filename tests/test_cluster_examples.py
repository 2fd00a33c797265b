"""The examples for clusters: their form, and that their command lines are valid."""

import os
import subprocess
from pathlib import Path

import pytest
import yaml
from torch.distributed.run import get_args_parser

EXAMPLES = Path(__file__).parents[1] / "examples"


def slurm_words(tmp_path: Path) -> list[str]:
    """What the script lets `srun` start, in a job of two machines."""
    for name, text in {"srun": 'printf "%s\\n" "$@"', "scontrol": 'printf "one\\ntwo\\n"'}.items():
        (tmp_path / name).write_text(f"#!/bin/bash\n{text}\n")
        (tmp_path / name).chmod(0o755)
    job = {"SLURM_JOB_NODELIST": "one,two", "SLURM_NNODES": "2", "SLURM_JOB_ID": "7"}
    path = f"{tmp_path}:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", EXAMPLES / "slurm.sh"], env={**job, "PATH": path}, check=True, capture_output=True, text=True
    )
    words = done.stdout.splitlines()
    return words[words.index("torchrun") + 1 :]


def jobset() -> dict:
    return yaml.safe_load((EXAMPLES / "kubernetes" / "jobset.yaml").read_text(encoding="utf-8"))


def pod(jobs: dict) -> dict:
    return jobs["template"]["spec"]["template"]["spec"]


def jobset_words(_: Path) -> list[str]:
    (jobs,) = jobset()["spec"]["replicatedJobs"]
    (container,) = pod(jobs)["containers"]
    assert container["command"] == ["torchrun"]
    return container["args"]


@pytest.mark.parametrize("words_of", [slurm_words, jobset_words])
def test_the_command_lines_are_valid(semask, tmp_path, words_of):
    options = get_args_parser().parse_args(words_of(tmp_path))
    assert (options.nnodes, options.nproc_per_node, options.max_restarts) == ("2", "4", 3)
    assert options.rdzv_backend == "c10d"
    assert options.rdzv_endpoint.endswith(":29500")
    assert (options.module, options.training_script) == (True, "semask.cli")
    said = yaml.safe_load(semask(*options.training_script_args, "--print_config").out)
    assert "--resume_or_start" in options.training_script_args
    assert said["training"]["batch_size"] % 8 == 0  # two machines, four processes each
    assert said["training"]["save_every"] == 1000


def test_the_pods_of_the_jobset_find_each_other():
    content = jobset()
    assert (content["apiVersion"], content["kind"]) == ("jobset.x-k8s.io/v1alpha2", "JobSet")
    (jobs,) = content["spec"]["replicatedJobs"]
    job = jobs["template"]["spec"]
    assert job["parallelism"] == job["completions"] == 2
    assert job["backoffLimit"] == 0  # it is JobSet that starts all pods again
    name = content["metadata"]["name"]
    first = f"{name}-{jobs['name']}-0-0.{name}"  # SET-JOBS-JOB-POD.SET
    assert f"--rdzv-endpoint={first}:29500" in jobset_words(Path())
    (container,) = pod(jobs)["containers"]
    assert {x["name"] for x in container["volumeMounts"]} == {x["name"] for x in pod(jobs)["volumes"]}
    assert container["resources"]["limits"]["nvidia.com/gpu"] == 4
