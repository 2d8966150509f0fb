"""RayJobs: KubeRay's published schema takes them whole, and the study travels unchanged."""

from __future__ import annotations

import gzip
import shlex
from functools import cache
from pathlib import Path

import jsonschema
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from sweeps.cli import execute
from sweeps.launch_kuberay import NAME_LENGTH, resource_name
from sweeps.yaml_text import yaml_text
from tests.object_store import SECRET
from tests.sweeps.toy import TOY

SCHEMA = Path(__file__).parent / "kuberay" / "ray.io_rayjobs.yaml.gz"


@cache
def schema():
    """What checks by the schema of ray.io/v1, strictly: Kubernetes drops unknown keys in silence."""
    document = yaml.load(gzip.decompress(SCHEMA.read_bytes()), Loader=yaml.CSafeLoader)
    (found,) = (version for version in document["spec"]["versions"] if version["name"] == "v1")
    return jsonschema.Draft202012Validator(strict(found["schema"]["openAPIV3Schema"]))


def strict(node):
    """A copy in which objects hold only what they declare."""
    if isinstance(node, list):
        return [strict(each) for each in node]
    if not isinstance(node, dict):
        return node
    made = {key: strict(value) for key, value in node.items()}
    if isinstance(made.get("properties"), dict) and made.get("type") == "object" and made["properties"] != {}:
        made.setdefault("additionalProperties", made.get("x-kubernetes-preserve-unknown-fields", False))
    return made


def documents(capfd, *arguments):
    assert execute(["launch", "kuberay", *map(str, arguments)]) == 0
    return list(yaml.safe_load_all(capfd.readouterr().out))


def containers(job):
    cluster = job["spec"]["rayClusterSpec"]
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    return [container for group in groups for container in group["template"]["spec"]["containers"]]


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LOOPSWEEP_STORE", raising=False)
    return tmp_path


def test_the_schema_takes_a_job_with_everything_and_nothing_unknown(capfd, folder):
    path = folder / "it's mine.toml"
    path.write_text(TOY)
    options = "--nodes 2 --workers 6 --device cuda --gpus 2 --time 12:00:00 --image reg.io/me/loopsweep@sha256:ab"
    config, job = documents(capfd, path, *options.split(), "--namespace", "lab", "--volume", "results:/data")
    schema().validate(job)
    job["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]["containers"][0]["imagePullPolice"] = "Always"
    with pytest.raises(jsonschema.ValidationError, match="imagePullPolice"):
        schema().validate(job)
    assert config["data"] == {"study.toml": TOY}
    assert job["spec"]["activeDeadlineSeconds"] == 43_200
    run = "loopsweep run --on ray --address auto --workers 6 --device cuda --store /data/results -- /study/study.toml"
    assert shlex.split(job["spec"]["entrypoint"]) == run.split()
    group = job["spec"]["rayClusterSpec"]["workerGroupSpecs"][0]
    worker = group["template"]["spec"]["containers"][0]
    assert group["replicas"] == 2
    assert worker["resources"]["limits"] == {"cpu": 3, "memory": "4Gi", "nvidia.com/gpu": 2}
    assert worker["resources"]["requests"] == worker["resources"]["limits"]
    for container in containers(job):  # one path on all pods
        assert {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]} == {
            "store": "/data",
            "study": "/study",
        }


def test_a_study_of_the_catalogue_is_in_the_image_and_its_size_goes_along(capfd):
    (job,) = documents(capfd, "p-hop@paper")
    schema().validate(job)
    assert shlex.split(job["spec"]["entrypoint"])[-1] == "p-hop@paper"
    assert {container["image"] for container in containers(job)} == {"loopsweep:0.1.0"}
    assert job["spec"]["rayClusterSpec"]["authOptions"] == {"mode": "token"}


def test_a_bucket_needs_no_volume_and_its_credentials_come_from_a_secret(capfd, bucket):
    (job,) = documents(capfd, "quickstart", "--store", bucket)
    schema().validate(job)
    assert f"--store {bucket} --" in job["spec"]["entrypoint"]
    for container in containers(job):
        assert container["envFrom"] == [{"secretRef": {"name": "loopsweep-s3"}}]
        assert "volumeMounts" not in container
    text = yaml.dump(job)
    assert SECRET not in text
    assert "AWS_" not in text
    assert execute(["launch", "kuberay", "quickstart", "--store", bucket, "--volume", "x"]) == 2
    assert "--volume" in capfd.readouterr().err


def test_a_bucket_that_cannot_be_read_from_here_is_planned_as_if_it_were_empty_and_said(capfd, bucket):
    assert execute(["launch", "ray-job", "quickstart", "--store", "s3://no-such-bucket/x"]) == 0
    out, err = capfd.readouterr()
    assert "--store s3://no-such-bucket/x -- quickstart" in out
    assert "as if nothing were recorded" in err


@pytest.mark.parametrize("name", ["toy", "A_b.C", "x" * 64, "x" * 63 + "y", "toy@paper"])
def test_names_are_what_kubernetes_takes_and_differ(name):
    made = resource_name(name)
    assert len(made) <= NAME_LENGTH
    assert made.replace("-", "").isalnum()
    assert made == made.lower()
    assert made != resource_name(name + "z")


LINES = st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=30)
TEXTS = st.one_of(
    LINES,
    st.lists(LINES, max_size=4).map("\n".join),
    st.lists(LINES, min_size=2, max_size=4).map(lambda lines: "\n".join(lines) + "\n"),
    st.sampled_from(["no", "1e3", "1", "~", "null", " a\n  b\n", "a: b\n- c\n", "#x\n\n\ny\n", "\n", "0x1f", "1_0"]),
)
VALUES = st.recursive(
    TEXTS | st.integers() | st.booleans(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(TEXTS, VALUES, min_size=1, max_size=3))
def test_what_is_written_is_read_back(value):
    assert yaml.safe_load(yaml_text(value)) == value
