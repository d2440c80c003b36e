"""The scripts of docs/cluster.md: what can be checked where there is no Slurm and no Kubernetes."""

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "docs" / "cluster.md").read_text(encoding="utf-8")


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)


def test_the_slurm_script(tmp_path):
    (script,) = blocks("sh")
    path = tmp_path / "train.sbatch"
    path.write_text(script)
    assert subprocess.run(["bash", "-n", str(path)], capture_output=True).returncode == 0
    assert "srun" in script and "--coordinator auto" in script
    if shutil.which("shellcheck"):
        done = subprocess.run(["shellcheck", str(path)], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout


def test_the_kubernetes_manifest():
    service, job = yaml.safe_load_all(blocks("yaml")[0])
    assert (service["apiVersion"], service["kind"], service["spec"]["clusterIP"]) == ("v1", "Service", "None")
    assert (job["apiVersion"], job["kind"]) == ("batch/v1", "Job")
    spec, pod = job["spec"], job["spec"]["template"]["spec"]
    assert spec["completionMode"] == "Indexed" and spec["completions"] == spec["parallelism"]
    assert pod["subdomain"] == service["metadata"]["name"] and pod["restartPolicy"] == "Never"
    (container,) = pod["containers"]
    options = dict(word.removeprefix("--").split("=", 1) for word in container["args"])
    # A pod of an indexed Job has the host name JOB-INDEX, and with a headless service the name JOB-INDEX.SERVICE.
    host, port = options["coordinator"].split(":")
    assert host == f"{job['metadata']['name']}-0.{service['metadata']['name']}"
    assert int(port) == container["ports"][0]["containerPort"] and int(options["processes"]) == spec["completions"]
    assert (ROOT / options["config"]).is_file()
    assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in pod["volumes"]}


def test_the_commands_parse():
    pytest.importorskip("jax")
    from autofocus_jax.command import batch
    from autofocus_jax.config_file import parse

    lines = [line for block in blocks("bash") for line in block.splitlines() if line.startswith("autofocus batch ")]
    assert len(lines) == 3
    for line in lines:
        arguments = parse(batch.Arguments, shlex.split(line)[2:], prog="autofocus batch")
        batch._checked(arguments)
