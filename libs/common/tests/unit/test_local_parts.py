"""Which part comes from where, and what is said when something is missing."""

import os
from pathlib import Path

import pytest

from postrider.local.containers import require_engine
from postrider.local.errors import LocalError, PartMissing
from postrider.local.home import Home
from postrider.local.kafka import fetch_jars, find_java, java_version, new_cluster_id, server_properties
from postrider.local.parts import Parts, Source, source_of
from postrider.local.postgres import find_binaries


@pytest.mark.parametrize(
    ("env", "expected"),
    [
        ({}, Source.EMBEDDED),
        ({"KAFKA_BOOTSTRAP_SERVERS": ""}, Source.EMBEDDED),
        ({"PARTS": "embedded"}, Source.EMBEDDED),
        ({"PARTS": "containers"}, Source.CONTAINER),
        ({"KAFKA_BOOTSTRAP_SERVERS": "kafka:9092"}, Source.GIVEN),
        ({"KAFKA_BOOTSTRAP_SERVERS": "kafka:9092", "PARTS": "containers"}, Source.GIVEN),
        ({"DATABASE_URL": "postgresql://x"}, Source.EMBEDDED),
    ],
)
def test_the_order_of_sources(env: dict[str, str], expected: Source) -> None:
    assert source_of("KAFKA_BOOTSTRAP_SERVERS", env) is expected


def test_an_unknown_wish_is_refused() -> None:
    with pytest.raises(LocalError, match="PARTS is 'docker'"):
        source_of("DATABASE_URL", {"PARTS": "docker"})


@pytest.mark.parametrize(
    ("shown", "version"),
    [
        ('openjdk version "17.0.15" 2025-04-15', 17),
        ('java version "1.8.0_292"', 8),
        ('openjdk version "21" 2023-09-19', 21),
        ('openjdk version "22-ea" 2024-03-19', 22),
        ("bash: java: command not found", None),
    ],
)
def test_java_versions(shown: str, version: int | None) -> None:
    assert java_version(shown) == version


def script(folder: Path, name: str, text: str) -> None:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\n{text}\n", "utf-8")
    (folder / name).chmod(0o755)


def test_no_java_is_told_with_what_to_install(tmp_path: Path) -> None:
    with pytest.raises(PartMissing, match=r"no java was found.*install Java 17 or newer and Maven"):
        find_java({"PATH": str(tmp_path)})


def test_an_old_java_is_named_and_a_new_one_after_it_is_taken(tmp_path: Path) -> None:
    script(tmp_path / "old", "java", """echo 'openjdk version "11.0.2"' >&2""")
    with pytest.raises(PartMissing, match=r"java is version 11"):
        find_java({"PATH": str(tmp_path / "old")})
    (tmp_path / "home").mkdir()
    script(tmp_path / "home" / "bin", "java", """echo 'openjdk version "11.0.2"' >&2""")
    script(tmp_path / "new", "java", """echo 'openjdk version "21.0.1"' >&2""")
    found = find_java({"JAVA_HOME": str(tmp_path / "home"), "PATH": str(tmp_path / "new")})
    assert found == str(tmp_path / "new" / "java")


async def test_no_maven_is_told_with_what_to_install(tmp_path: Path) -> None:
    with pytest.raises(PartMissing, match=r"mvn was not found.*Maven"):
        await fetch_jars(tmp_path / "libs", Home(tmp_path), {"PATH": str(tmp_path)}, lambda _line: None)


async def test_jars_are_fetched_once(tmp_path: Path) -> None:
    log = tmp_path / "calls"
    script(
        tmp_path / "bin",
        "mvn",
        f"""echo called >> {log}
        for word; do case $word in -DoutputDirectory=*) folder=${{word#*=}}; esac; done
        mkdir -p "$folder"; echo jar > "$folder/a.jar\"""",
    )
    env = {"PATH": f"{tmp_path / 'bin'}{os.pathsep}{os.defpath}"}
    said: list[str] = []
    for _ in range(2):
        await fetch_jars(tmp_path / "libs", Home(tmp_path), env, said.append)
    assert (tmp_path / "libs" / "a.jar").read_text("utf-8") == "jar\n"
    assert log.read_text("utf-8") == "called\n"
    assert said == ["kafka: fetching the jars with Maven (once, about 50 MB)"]


def test_the_broker_listens_on_loopback_and_creates_no_topic_by_itself() -> None:
    lines = dict(line.split("=", 1) for line in server_properties(Path("/data"), 9092, 9093).splitlines())
    assert lines["listeners"] == "PLAINTEXT://127.0.0.1:9092,CONTROLLER://127.0.0.1:9093"
    assert lines["auto.create.topics.enable"] == "false"
    assert int(lines["message.max.bytes"]) >= 2 * 1024 * 1024


def test_binaries_of_another_version_than_the_data_are_not_used(tmp_path: Path) -> None:
    (tmp_path / "PG_VERSION").write_text("9\n", "ascii")
    with pytest.raises(PartMissing, match="was made by PostgreSQL 9"):
        find_binaries(tmp_path, {"PATH": os.defpath})


def test_binaries_are_found_for_a_new_cluster(tmp_path: Path) -> None:
    assert (find_binaries(tmp_path, dict(os.environ)) / "initdb").exists()


def test_no_engine_is_told_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(PartMissing, match=r"docker was not found.*start a Docker engine"):
        require_engine({"PATH": str(tmp_path)})
    script(tmp_path, "docker", "echo 'Cannot connect to the Docker daemon' >&2; exit 1")
    with pytest.raises(PartMissing, match="Cannot connect to the Docker daemon"):
        require_engine({"PATH": f"{tmp_path}{os.pathsep}{os.defpath}"})


async def test_a_missing_part_fails_the_start_and_leaves_nothing(tmp_path: Path) -> None:
    parts = Parts(Home(tmp_path / "home"), {"PARTS": "containers", "PATH": str(tmp_path)}, lambda _line: None)
    with pytest.raises(LocalError, match="docker was not found"):
        await parts.start()
    assert parts.kafka is None and parts.postgres is None


def test_a_cluster_id_is_never_taken_for_an_option() -> None:
    ids = [new_cluster_id() for _ in range(2000)]
    assert all(len(each) == 22 and not each.startswith("-") for each in ids)
    assert len(set(ids)) == 2000
