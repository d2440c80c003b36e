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


def documents():
    return [document for block in blocks("yaml") for document in yaml.safe_load_all(block)]


def commands():
    """The words of every `autofocus batch` of the guide, in the manifest and behind `ray job submit` too."""
    scripts = "\n".join((*blocks("bash"), *blocks("sh"))).replace("\\\n", " ")
    lines = [line.rpartition(" -- ")[2] for line in scripts.splitlines()]
    lines += [document["spec"]["entrypoint"] for document in documents() if document["kind"] == "RayJob"]
    return [shlex.split(line) for line in lines if line.strip().startswith("autofocus batch ")]


def test_the_slurm_script(tmp_path):
    (script,) = [text for text in blocks("sh") if "#SBATCH" in text]
    path = tmp_path / "train.sbatch"
    path.write_text(script)
    assert subprocess.run(["bash", "-n", str(path)], capture_output=True).returncode == 0
    assert "srun" in script and "--coordinator auto" in script
    if shutil.which("shellcheck"):
        done = subprocess.run(["shellcheck", str(path)], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout


def test_the_kubernetes_manifest():
    service, job = (document for document in documents() if document["kind"] in ("Service", "Job"))
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
    from autofocus_jax.config.load import parse

    assert len(commands()) == 6
    for words in commands():
        arguments = parse(batch.Arguments, words[2:], prog="autofocus batch")
        batch._checked(arguments)


def test_the_ray_job():
    (job,) = (document for document in documents() if document["kind"] == "RayJob")
    assert job["apiVersion"] == "ray.io/v1" and "--address auto" in job["spec"]["entrypoint"]
    cluster = job["spec"]["rayClusterSpec"]
    (group,) = cluster["workerGroupSpecs"]
    pods = [part["template"]["spec"] for part in (cluster["headGroupSpec"], group)]
    (head,), (worker,) = (pod["containers"] for pod in pods)
    assert head["image"] == worker["image"] and group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]
    # The weights are read on the head alone, so there they must be.
    words = shlex.split(job["spec"]["entrypoint"])
    assert words[words.index("--weights") + 1].startswith(head["volumeMounts"][0]["mountPath"])
    assert {mount["name"] for mount in head["volumeMounts"]} == {volume["name"] for volume in pods[0]["volumes"]}
    # As many workers as there are GPUs, none of them on the head, which Ray is told has no cores.
    gpus = group["replicas"] * worker["resources"]["limits"]["nvidia.com/gpu"]
    assert words[words.index("--workers") + 1] == f"1:{gpus}"
    assert cluster["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    pinned = re.search(r"^ray==(\S+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    assert cluster["rayVersion"] == pinned[1]
