"""The store in a bucket, on a real server: the contract, and what is particular to S3."""

from __future__ import annotations

import pickle

import boto3
import pytest

from infra.s3_store import PART_BYTES, S3Store
from infra.seaweedfs import S3Server
from orchestrator.protocols import ObjectExists, StoreError
from tests.contracts.lease_contract import LeaseContract
from tests.contracts.store_contract import KeyContract, StoreContract


@pytest.fixture
def store(s3: str) -> S3Store:
    return S3Store(s3, patience_s=10)


class TestContract(StoreContract, KeyContract):
    pass


class TestLease(LeaseContract):
    pass


def test_probe_leaves_nothing_behind(store: S3Store, s3_server: S3Server) -> None:
    store.probe()
    assert list(store.list("")) == []
    prefix = store.where.removeprefix(f"s3://{s3_server.bucket}/")
    assert boto3.client("s3").list_objects_v2(Bucket=s3_server.bucket, Prefix=prefix)["KeyCount"] == 0


def test_studies_are_found_beside_other_folders(store: S3Store) -> None:
    for key in ("reef/manifest.json", "reef/journal/shoal/1", "atoll/manifest.json", "evaluations/a/b/c.json"):
        store.create(key, b"{}")
    assert store.studies() == ["atoll", "reef"]
    assert S3Store(f"{store.where}/nothing").studies() == []


@pytest.mark.parametrize("size", [PART_BYTES, 2 * PART_BYTES, 2 * PART_BYTES + 5])
def test_large_objects_go_in_parts(store: S3Store, tmp_path: pytest.TempPathFactory, size: int) -> None:
    data = bytes(range(251)) * (size // 251 + 1)
    file = tmp_path / "weights"  # type: ignore[operator]
    file.write_bytes(data[:size])
    store.create_from("study/weights", file)
    with store.fetch("study/weights") as fetched:
        assert fetched.read_bytes() == data[:size]
    with pytest.raises(ObjectExists, match="study/weights"):
        store.create_from("study/weights", file)


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("s3://", "no address: write s3://bucket/prefix"),
        ("s3://Bucket_1/x", "no address"),
        ("s3://key:hush-hush@bucket/x", r"store s3://\.\.\.@bucket/x is no address.*keys belong in boto3's settings"),
    ],
)
def test_what_is_no_address_is_said(s3: str, address: str, words: str) -> None:
    with pytest.raises(ValueError, match=words) as raised:
        S3Store(address)
    assert "hush-hush" not in str(raised.value)


def test_a_missing_bucket_is_said(s3: str) -> None:
    with pytest.raises(StoreError, match=r"there is no bucket no-such-bucket at http.*; make it"):
        S3Store("s3://no-such-bucket/studies").probe()


@pytest.mark.parametrize("name", ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"])
def test_no_permission_is_said(s3: str, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "wrong")
    with pytest.raises(StoreError, match=r"gives no permission to write an object \(\w+\); check the credentials"):
        S3Store(s3).probe()


def test_missing_credentials_are_said(s3: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with pytest.raises(StoreError, match="boto3 finds no credentials; set AWS_PROFILE"):
        S3Store(s3).probe()


def test_an_endpoint_that_does_not_answer_is_said(s3: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://name:hush-hush@127.0.0.1:1")
    with pytest.raises(StoreError, match=r"http://127\.0\.0\.1:1 does not answer; .*AWS_ENDPOINT_URL_S3") as raised:
        S3Store(s3).probe()
    assert "hush-hush" not in str(raised.value)


def test_another_process_gets_the_same_place(store: S3Store) -> None:
    store.create("study/manifest.json", b"{}")
    assert pickle.loads(pickle.dumps(store)).read("study/manifest.json") == b"{}"
