"""The files that start clusters: each is read by what will read it, as far as that is to be had here, and keeps the
promises that all of them make."""

from __future__ import annotations

import copy
import json
import os
import re
import subprocess
import sysconfig
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import boto3
import kubernetes_validate
import pytest
import typer
import yaml
from botocore.validate import ParamValidator
from compose_spec import PyCompose
from ray.autoscaler._private.util import prepare_config, validate_config

from jobs.cli import app
from tests.infra.launch_files import (
    AWS,
    COMPOSE,
    DOCKERFILE,
    FILES,
    INFRA,
    KUBERNETES,
    SCRIPTS,
    SLURM,
    cluster_specs,
    compose,
    documents,
    objects,
    pod_templates,
    secrets_of,
)

PINNED = re.compile(r"[a-z0-9./-]+:\d+\.\d+(\.\d+)?(-[a-z-]+)?")
"""An image with a version that does not move."""
RAY_JOB = {
    "entrypoint",
    "backoffLimit",
    "shutdownAfterJobFinishes",
    "ttlSecondsAfterFinished",
    "submitterPodTemplate",
    "rayClusterSpec",
}
RAY_CLUSTER = {
    "rayVersion",
    "authOptions",
    "enableInTreeAutoscaling",
    "autoscalerOptions",
    "headGroupSpec",
    "workerGroupSpecs",
}
AUTOSCALER = {"version", "idleTimeoutSeconds", "env", "securityContext"}
HEAD = {"rayStartParams", "template"}
WORKERS = {"groupName", "minReplicas", "maxReplicas", "rayStartParams", "template"}


@pytest.fixture(scope="module")
def secrets() -> dict[str, str]:
    """What infra/secrets.sh prints."""
    done = subprocess.run(["sh", str(INFRA / "secrets.sh")], capture_output=True, text=True, check=True)
    return secrets_of(done.stdout)


def test_no_file_is_forgotten() -> None:
    kinds = {".yaml", ".json", ".sh", ".sbatch"}
    assert {path for path in INFRA.rglob("*") if path.suffix in kinds} <= set(FILES)
    assert {path for path in FILES if path.suffix in {".sh", ".sbatch"}} == set(SCRIPTS)


# What will read them.


def test_kubernetes_takes_the_objects() -> None:
    version = kubernetes_validate.latest_version()
    for one in objects():
        if one["apiVersion"] != "ray.io/v1":
            kubernetes_validate.validate(one, version, strict=True)
    templates = pod_templates()
    assert len(templates) == 7
    for template in templates:
        pod = {"apiVersion": "v1", "kind": "PodTemplate", "metadata": {"name": "pod"}, "template": template}
        kubernetes_validate.validate(pod, version, strict=True)


def test_the_schemas_of_kubernetes_refuse_what_they_do_not_know() -> None:
    template = copy.deepcopy(pod_templates()[0])
    template["spec"]["containers"][0]["imagee"] = "typing error"
    pod = {"apiVersion": "v1", "kind": "PodTemplate", "metadata": {"name": "pod"}, "template": template}
    with pytest.raises(kubernetes_validate.ValidationError, match="imagee"):
        kubernetes_validate.validate(pod, kubernetes_validate.latest_version(), strict=True)


def test_kuberay_knows_every_field() -> None:
    """Fields, limits and rules of KubeRay 1.5.1 (RayJobSpec, RayClusterSpec, and what its operator refuses)."""
    job, cluster = (one for kind in ("RayJob", "RayCluster") for one in objects() if one["kind"] == kind)
    for one in (job, cluster):
        assert re.fullmatch(r"[a-z]([-a-z0-9]*[a-z0-9])?", one["metadata"]["name"])
        assert len(one["metadata"]["name"]) <= 47
    assert set(job["spec"]) == RAY_JOB
    for spec in cluster_specs():
        assert set(spec) == RAY_CLUSTER
        assert set(spec["autoscalerOptions"]) == AUTOSCALER
        assert spec["autoscalerOptions"]["version"] in ("v1", "v2")
        assert set(spec["headGroupSpec"]) == HEAD
        for group in spec["workerGroupSpecs"]:
            assert set(group) == WORKERS
            assert 0 <= group["minReplicas"] <= group["maxReplicas"]
        for group in (spec["headGroupSpec"], *spec["workerGroupSpecs"]):
            assert all(isinstance(value, str) for value in group["rayStartParams"].values())
            assert group["template"]["spec"]["restartPolicy"] == "Never", "autoscaler v2 wants it"


def test_the_two_clusters_of_kubernetes_differ_in_the_recipe_alone() -> None:
    job, cluster = copy.deepcopy(cluster_specs())
    pod = job["headGroupSpec"]["template"]["spec"]
    pod["volumes"] = [volume for volume in pod["volumes"] if volume["name"] != "recipe"]
    (head,) = pod["containers"]
    head["volumeMounts"] = [mount for mount in head["volumeMounts"] if mount["name"] != "recipe"]
    assert job == cluster


def test_rays_launcher_takes_the_cluster() -> None:
    (cluster,) = documents(AWS / "cluster.yaml")
    prepared = prepare_config(copy.deepcopy(cluster))
    validate_config(prepared)
    assert prepared["docker"]["image"] == cluster["docker"]["image"]


def test_ec2_knows_every_field_of_the_machines() -> None:
    (cluster,) = documents(AWS / "cluster.yaml")
    model = boto3.client("ec2", region_name="us-west-2").meta.service_model
    machines, rules = (
        model.operation_model(name).input_shape for name in ("RunInstances", "AuthorizeSecurityGroupIngress")
    )
    for node in cluster["available_node_types"].values():
        asked = {**node["node_config"], "MinCount": 1, "MaxCount": 1}
        assert not ParamValidator().validate(asked, machines).generate_report()
    asked = {"IpPermissions": cluster["provider"]["security_group"]["IpPermissions"]}
    assert not ParamValidator().validate(asked, rules).generate_report()


def test_compose_takes_the_services(secrets: dict[str, str]) -> None:
    flat = yaml.safe_dump(compose(secrets))  # docker compose merges `<<` as YAML does
    assert len(PyCompose.from_yaml(flat).service_names()) == 6
    with pytest.raises(ValueError, match="shmsize"):
        PyCompose.from_yaml(flat.replace("shm_size", "shmsize"))


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_shellcheck_finds_nothing(script: Path) -> None:
    checker = Path(sysconfig.get_path("scripts")) / "shellcheck"
    done = subprocess.run([checker, "--severity=style", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    assert subprocess.run(["bash", "-n", script]).returncode == 0


# What they promise.


def test_tokens_are_asked_for_everywhere(secrets: dict[str, str]) -> None:
    assert all(spec["authOptions"] == {"mode": "token"} for spec in cluster_specs())
    assert "RAY_AUTH_MODE=token" in DOCKERFILE.read_text()
    assert "--env RAY_AUTH_MODE=token" in documents(AWS / "cluster.yaml")[0]["docker"]["run_options"]
    assert "RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH=" in (SLURM / "study.sbatch").read_text()
    services = compose(secrets)["services"]
    for name in ("head", "worker"):
        environment = services[name]["environment"]
        assert (environment["RAY_AUTH_MODE"], environment["RAY_AUTH_TOKEN"]) == ("token", secrets["RAY_AUTH_TOKEN"])


def test_dashboards_are_for_this_machine_alone(secrets: dict[str, str]) -> None:
    """Where Kubernetes' operator has to reach it, a network policy lets in nobody else."""
    (aws,) = documents(AWS / "cluster.yaml")
    (start,) = (command for command in aws["head_start_ray_commands"] if "--head" in command)
    assert "--dashboard-host=127.0.0.1" in start
    assert "--dashboard-host 127.0.0.1" in (SLURM / "study.sbatch").read_text()
    for service in compose(secrets)["services"].values():
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ()))
    policy = next(one for one in objects() if one["metadata"]["name"] == "archipelago-ray")["spec"]
    assert policy["podSelector"] == {"matchLabels": {"ray.io/is-ray-node": "yes"}}
    assert policy["policyTypes"] == ["Ingress"]
    others = [rule for rule in policy["ingress"] if rule["from"] != [{"podSelector": policy["podSelector"]}]]
    assert [rule["ports"] for rule in others] == [[{"protocol": "TCP", "port": 8265}]]
    assert not [one for one in objects() if one["kind"] == "Ingress" or one.get("spec", {}).get("type")]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_no_file_holds_secrets_or_another_client_of_buckets(path: Path) -> None:
    text = path.read_text()
    assert "s3fs" not in text
    assert not re.search(r"(?i)(password|secret|token|key)\w*[=:] *['\"]?[0-9a-z+/]{16,}", text)
    assert not re.search(r"AKIA[0-9A-Z]{16}|-----BEGIN", text)


def test_usage_statistics_are_off(secrets: dict[str, str]) -> None:
    off = {"name": "RAY_USAGE_STATS_ENABLED", "value": "0"}
    for spec in cluster_specs():
        assert off in spec["autoscalerOptions"]["env"]
        for group in (spec["headGroupSpec"], *spec["workerGroupSpecs"]):
            assert all(off in container["env"] for container in group["template"]["spec"]["containers"])
    assert "RAY_USAGE_STATS_ENABLED=0" in DOCKERFILE.read_text()
    assert "RAY_USAGE_STATS_ENABLED=0" in (SLURM / "study.sbatch").read_text()
    assert "--env RAY_USAGE_STATS_ENABLED=0" in documents(AWS / "cluster.yaml")[0]["docker"]["run_options"]
    services = compose(secrets)["services"]
    assert all(services[name]["environment"]["RAY_USAGE_STATS_ENABLED"] == "0" for name in ("head", "worker"))


def test_nobody_is_root(secrets: dict[str, str]) -> None:
    assert re.findall(r"^USER .*$", DOCKERFILE.read_text(), re.MULTILINE) == ["USER 1000:1000"]
    for template in pod_templates():
        security = template["spec"]["securityContext"]
        assert security["runAsNonRoot"] is True
        assert security["runAsUser"] > 0
        for container in template["spec"]["containers"]:
            assert container["securityContext"]["allowPrivilegeEscalation"] is False
            assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    for service in compose(secrets)["services"].values():
        assert service["cap_drop"] == ["ALL"]
        assert service["image"].startswith("archipelago:") or not service["user"].startswith("0")


def test_images_are_pinned(secrets: dict[str, str]) -> None:
    images = re.findall(r"^FROM (\S+)", DOCKERFILE.read_text(), re.MULTILINE)
    images += [container["image"] for template in pod_templates() for container in template["spec"]["containers"]]
    images += [service["image"] for service in compose(secrets)["services"].values()]
    images += [documents(AWS / "cluster.yaml")[0]["docker"]["image"]]
    assert [image for image in images if not PINNED.fullmatch(image)] == []
    assert "pip install -c constraints.txt '.[cluster]'" in DOCKERFILE.read_text()
    ours = {image.rpartition(":")[2] for image in images if "archipelago:" in image}
    (version,) = re.findall(r'^version = "(.*)"', (INFRA.parent / "pyproject.toml").read_text(), re.MULTILINE)
    assert ours == {version}
    (ray,) = re.findall(r"^ray==(.*)$", (INFRA.parent / "constraints.txt").read_text(), re.MULTILINE)
    assert {spec["rayVersion"] for spec in cluster_specs()} == {ray}


def test_heads_give_no_work_and_workers_have_shared_memory(secrets: dict[str, str]) -> None:
    for spec in cluster_specs():
        assert spec["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
        for group in (spec["headGroupSpec"], *spec["workerGroupSpecs"]):
            pod = group["template"]["spec"]
            volumes = {volume["name"]: volume for volume in pod["volumes"]}
            mounts = {mount["mountPath"]: mount["name"] for mount in pod["containers"][0]["volumeMounts"]}
            assert volumes[mounts["/dev/shm"]]["emptyDir"]["medium"] == "Memory"
    (aws,) = documents(AWS / "cluster.yaml")
    assert aws["available_node_types"]["head"]["resources"]["CPU"] == 0
    services = compose(secrets)["services"]
    assert "--num-cpus=0" in services["head"]["command"]
    assert all(services[name]["shm_size"] for name in ("head", "worker"))


def test_what_is_started_again_goes_on_with_the_same_study() -> None:
    job = next(one for one in objects() if one["kind"] == "RayJob")["spec"]
    assert job["backoffLimit"] > 0
    assert "--resume --store s3://" in job["entrypoint"]
    script = (SLURM / "study.sbatch").read_text()
    assert {"#SBATCH --requeue", "#SBATCH --signal=B:TERM@300"} <= set(script.splitlines())
    assert '--resume --store "$store"' in script


def test_workers_on_spot_say_when_they_go() -> None:
    for spec in cluster_specs():
        (group,) = spec["workerGroupSpecs"]
        pod = group["template"]["spec"]
        assert any("spot" in name for name in pod["nodeSelector"])
        command = pod["containers"][0]["lifecycle"]["preStop"]["exec"]["command"][-1]
        assert "ray drain-node --reason DRAIN_NODE_REASON_PREEMPTION" in command
        (slept,) = re.findall(r"sleep (\d+)", command)
        assert int(slept) < pod["terminationGracePeriodSeconds"]
    (aws,) = documents(AWS / "cluster.yaml")
    nodes = aws["available_node_types"]
    assert nodes["gpu-spot"]["node_config"]["InstanceMarketOptions"] == {"MarketType": "spot"}
    assert "InstanceMarketOptions" not in nodes["head"]["node_config"]
    assert any("spot_watch.sh" in command for command in aws["worker_start_ray_commands"])


@pytest.mark.parametrize("name", ["bucket-policy.json", "head-policy.json"])
def test_policies_allow_no_more_than_they_name(name: str) -> None:
    policy = json.loads((AWS / name).read_text())
    for statement in policy["Statement"]:
        actions = [statement["Action"]] if isinstance(statement["Action"], str) else statement["Action"]
        assert not [action for action in actions if "*" in action]
        assert statement["Resource"] != "*" or all(action.startswith("ec2:Describe") for action in actions)
    if name == "bucket-policy.json":
        assert {"s3:GetObject", "s3:PutObject", "s3:DeleteObject"} <= set(policy["Statement"][1]["Action"])


def test_machines_of_aws_hold_no_keys_and_give_none_away() -> None:
    (aws,) = documents(AWS / "cluster.yaml")
    for node in aws["available_node_types"].values():
        assert node["node_config"]["IamInstanceProfile"]["Arn"].startswith("arn:aws:iam::")
        assert node["node_config"]["MetadataOptions"]["HttpTokens"] == "required"
    (rule,) = aws["provider"]["security_group"]["IpPermissions"]
    assert rule["ToPort"] == 22
    assert all(range_["CidrIp"].endswith("/32") for range_ in rule["IpRanges"])


def test_secrets_are_new_each_time_and_all_that_compose_asks_for(secrets: dict[str, str]) -> None:
    again = secrets_of(subprocess.run(["sh", str(INFRA / "secrets.sh")], capture_output=True, text=True).stdout)
    same = {name for name in secrets if secrets[name] == again[name]}
    asked = set(re.findall(r"\$\{(\w+):\?", COMPOSE.read_text()))
    assert asked - {"AWS_ACCESS_KEY_ID"} == {name for name in secrets if name not in same}
    assert asked <= set(secrets)


# What runs here.


class _Metadata(BaseHTTPRequestHandler):
    """EC2's metadata service: announces at the second question that the machine is taken back."""

    asked = 0

    def do_PUT(self) -> None:
        self._answer(200, b"token-of-imds")

    def do_GET(self) -> None:
        assert self.headers["X-aws-ec2-metadata-token"] == "token-of-imds"
        type(self).asked += 1
        self._answer(404 if self.asked < 2 else 200, b'{"action": "terminate"}')

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def metadata_service() -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), _Metadata)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_spot_machine_that_is_taken_back_drains(metadata_service: str, tmp_path: Path) -> None:
    program = tmp_path / "ray"
    program.write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/called\n')
    program.chmod(0o755)
    environment = {
        **os.environ,
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "METADATA_ADDRESS": metadata_service,
        "WATCH_S": "0.1",
    }
    subprocess.run(["bash", AWS / "spot_watch.sh"], env=environment, check=True, timeout=30, stdout=subprocess.DEVNULL)
    assert (tmp_path / "called").read_text().startswith("drain-node --reason DRAIN_NODE_REASON_PREEMPTION")


def test_kubectl_takes_every_yaml_file(tmp_path: Path) -> None:
    """kubectl builds them as one set: no two objects of a kind share a name."""
    kubectl = next((path for path in map(Path, ("/usr/bin/kubectl", "/usr/local/bin/kubectl")) if path.exists()), None)
    if kubectl is None:
        pytest.skip("no kubectl here")
    names = [path.name for path in sorted(KUBERNETES.glob("*.yaml"))]
    for name in names:
        (tmp_path / name).write_text((KUBERNETES / name).read_text())
    (tmp_path / "kustomization.yaml").write_text(yaml.safe_dump({"resources": names}))
    done = subprocess.run([kubectl, "kustomize", tmp_path], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert len(list(yaml.safe_load_all(done.stdout))) == len(objects())


def test_the_workflow_runs_what_has_to_pass() -> None:
    (workflow,) = documents(INFRA.parent / ".github" / "workflows" / "ci.yml")
    assert {"run": ".ci/run"} in workflow["jobs"]["test"]["steps"]
    assert workflow["permissions"] == {"contents": "read"}
    assert os.access(INFRA.parent / ".ci" / "run", os.X_OK)


def test_commands_in_the_files_and_their_guide_are_ours() -> None:
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    texts = [path.read_text() for path in (*FILES, INFRA.parent / "docs" / "clusters.md")]
    typed = re.findall(r"(?<![\w/-])archipelago ([a-z]+) ([^`\n]*)", "\n".join(texts))
    used = [(name, option) for name, rest in typed if name in commands for option in re.findall(r" (--[a-z-]+)", rest)]
    known = {(name, option) for name, one in commands.items() for given in one.params for option in given.opts}
    known |= {
        (name, option) for name, one in commands.items() for given in one.params for option in given.secondary_opts
    }
    assert {name for name, _ in used} >= {"search", "submit", "status"}
    assert set(used) <= known


def test_the_guide_names_files_that_are_there() -> None:
    guide = INFRA.parent / "docs" / "clusters.md"
    for link in re.findall(r"\]\(([^)#]+)\)", guide.read_text()):
        assert (guide.parent / link).exists(), link
    for path in re.findall(r"infra/[\w./-]+\w", guide.read_text()):
        assert (INFRA.parent / path).exists() or path == "infra/.env", path
