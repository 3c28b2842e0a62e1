"""What docker/ promises: images pinned to what the code is tested with, nothing more open than it has to be.

No engine runs here. The files are read by Docker Compose itself, by docker's own reading of `.dockerignore` and by
linters; the scripts are run.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from docker.utils.build import exclude_paths
from prefect.flows import load_flow_from_entrypoint
from prefect.settings import get_current_settings
from pydantic import AliasChoices, BaseModel
from pydantic_settings import BaseSettings

from flows.settings import Settings
from graphstore.neo4j.server.jars import NEO4J_VERSION

ROOT = Path(__file__).parents[2]
DOCKER = ROOT / "docker"
COMPOSE = DOCKER / "compose.yaml"
LONG_RUNNING = ("neo4j", "postgres", "prefect-server", "worker", "explorer")
MEBI = 2**20


def tool(name: str) -> str:
    """A program that a Python package of the development requirements brings."""
    found = shutil.which(name, path=sysconfig.get_path("scripts")) or shutil.which(name)
    if found is None:
        if os.environ.get("CI"):
            pytest.fail(f"{name} is not installed")
        pytest.skip(f"{name} is not installed")
    return found


def run(*command: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    base = {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/")}
    return subprocess.run(
        list(map(str, command)), env=base | environment, capture_output=True, text=True, check=False, timeout=120
    )


def written() -> dict[str, Any]:
    """The compose file as a YAML reader sees it, anchors and merges resolved."""
    document: dict[str, Any] = yaml.safe_load(COMPOSE.read_text())
    return document


@pytest.fixture(scope="module")
def resolved() -> dict[str, Any]:
    """The compose file as Docker Compose sees it: checked against its schema, everything filled in."""
    out = run(
        tool("docker-compose"), "--file", COMPOSE, "--profile", "*", "config", "--format", "json", "--no-normalize"
    )
    assert out.returncode == 0, out.stderr
    document: dict[str, Any] = json.loads(out.stdout)
    return document


SERVICES: dict[str, dict[str, Any]] = written()["services"]
each_service = pytest.mark.parametrize("service", SERVICES.values(), ids=SERVICES.keys())


def pinned(name: str) -> str:
    """Version of a package in requirements/use.txt."""
    found = re.search(rf"^{name}==(\S+)", (ROOT / "requirements/use.txt").read_text(), re.MULTILINE)
    assert found
    return found[1]


def version() -> str:
    found = re.search(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert found
    return found[1]


# -- compose.yaml ------------------------------------------------------------------------------------------------------


def test_docker_compose_accepts_the_file(resolved: dict[str, Any]) -> None:
    assert set(resolved["services"]) == set(SERVICES)


def test_images_are_those_that_the_code_is_tested_with() -> None:
    assert SERVICES["neo4j"]["image"] == f"neo4j:{NEO4J_VERSION}-community"
    assert SERVICES["prefect-server"]["image"].startswith(f"prefecthq/prefect:{pinned('prefect')}-python3.")
    assert re.fullmatch(r"postgres:\d+\.\d+-\w+", SERVICES["postgres"]["image"])
    for name in ("deployments", "worker", "app"):
        assert SERVICES[name]["image"] == f"graph2image:{version()}"


@each_service
def test_service_has_no_more_rights_than_it_needs(service: dict[str, Any]) -> None:
    uid, gid = map(int, service["user"].split(":"))
    assert uid > 0
    assert gid > 0
    assert service["cap_drop"] == ["ALL"]
    assert "cap_add" not in service
    assert "no-new-privileges:true" in service["security_opt"]
    assert not {"privileged", "network_mode", "pid", "ipc", "devices"} & service.keys()


def test_root_file_systems_are_read_only_but_the_one_of_neo4j() -> None:
    assert {name for name, service in SERVICES.items() if not service.get("read_only")} == {"neo4j"}


@each_service
def test_service_is_limited(service: dict[str, Any]) -> None:
    limits = service["deploy"]["resources"]["limits"]
    assert limits.keys() == {"cpus", "memory", "pids"}
    assert float(limits["cpus"]) > 0
    assert limits["pids"] > 0


def test_neo4j_fits_its_limit(resolved: dict[str, Any]) -> None:
    service = resolved["services"]["neo4j"]
    memory = [
        int(value.removesuffix("g")) * 1024 * MEBI
        for name, value in service["environment"].items()
        if name.endswith(("heap_max__size", "pagecache_size"))
    ]
    assert len(memory) == 2
    # What the JVM needs beside its heap, and the shell of the health check.
    assert sum(memory) + 1024 * MEBI <= int(service["deploy"]["resources"]["limits"]["memory"])


@pytest.mark.parametrize("name", LONG_RUNNING)
def test_long_running_service_is_watched_and_restarted(name: str) -> None:
    service = SERVICES[name]
    assert service["restart"] == "unless-stopped"
    assert service["healthcheck"]["test"][0] in ("CMD", "CMD-SHELL")
    assert service["healthcheck"].keys() >= {"interval", "timeout", "retries", "start_period"}


def test_services_wait_until_what_they_need_is_healthy() -> None:
    for service in SERVICES.values():
        for needed, how in service.get("depends_on", {}).items():
            expected = "service_healthy" if needed in LONG_RUNNING else "service_completed_successfully"
            assert how["condition"] == expected


def test_ports_are_published_to_this_host_only(resolved: dict[str, Any]) -> None:
    ports = [port for service in resolved["services"].values() for port in service.get("ports", [])]
    assert {int(port["published"]) for port in ports} == {4200, 7474, 7687, 8765}
    assert {port["host_ip"] for port in ports} == {"127.0.0.1"}


def test_database_is_reached_by_the_prefect_server_only() -> None:
    assert written()["networks"]["database"]["internal"] is True
    members = {name for name, service in SERVICES.items() if "database" in service["networks"]}
    assert members == {"postgres", "prefect-server"}
    assert SERVICES["postgres"]["networks"] == ["database"]


@each_service
def test_secrets_are_files(service: dict[str, Any]) -> None:
    given = {name: str(value) for name, value in service["environment"].items()}
    mounted = {f"/run/secrets/{secret}" for secret in service.get("secrets", [])}
    named = {value for name, value in given.items() if name.endswith("_FILE")}
    assert named == mounted
    assert not [name for name in given if re.search(r"PASSWORD$|AUTH(_STRING)?$|TOKEN$|SECRET|_URL$.*@", name)]
    assert not [value for value in given.values() if re.search(r"://[^/]*@", value)]


def test_every_secret_is_ignored_by_git_and_by_the_build() -> None:
    context = built_from()
    for secret in written()["secrets"].values():
        assert secret.keys() == {"file"}
        path = (DOCKER / secret["file"]).relative_to(ROOT)
        assert run("git", "-C", ROOT, "check-ignore", "--quiet", path).returncode == 0, path
        assert str(path) not in context


def test_every_volume_is_named_and_used() -> None:
    mounts = [mount for service in SERVICES.values() for mount in service.get("volumes", [])]
    names = {mount.split(":")[0] for mount in mounts if isinstance(mount, str)}
    assert names == set(written()["volumes"])
    # The user's own files are the only ones of the host, and cannot be written.
    binds = [mount for mount in mounts if not isinstance(mount, str)]
    assert {bind["target"] for bind in binds} == {"/sources"}
    assert all(bind["read_only"] for bind in binds)


@each_service
def test_variables_are_ones_that_the_code_reads(service: dict[str, Any]) -> None:
    sources = "".join(path.read_text() for folder in ("flows", "graphstore") for path in (ROOT / folder).rglob("*.py"))
    settings = {f"GRAPH2IMAGE_{field.upper()}" for field in Settings.model_fields}
    known = set(variables_of(type(get_current_settings())))
    for name in service["environment"]:
        if name.startswith("GRAPH2IMAGE_"):
            assert name in settings or name in sources, name
        elif name.startswith("PREFECT_"):
            assert name.removesuffix("_FILE") in known, name


def variables_of(model: type[BaseModel]) -> Iterator[str]:
    """Names of the environment variables that a model of settings reads, its parts included."""
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseSettings):
            yield from variables_of(field.annotation)
            continue
        yield f"{model.model_config.get('env_prefix', '')}{name}".upper()
        if isinstance(field.validation_alias, AliasChoices):
            yield from (alias.upper() for alias in field.validation_alias.choices if isinstance(alias, str))


# -- the image ---------------------------------------------------------------------------------------------------------


def instructions() -> Iterator[tuple[str, str]]:
    text = re.sub(r"^#.*\n", "", (DOCKER / "Dockerfile").read_text(), flags=re.MULTILINE)
    for line in re.sub(r"\\\n\s*", "", text).splitlines():
        if line.strip():
            word, _, rest = line.partition(" ")
            yield word, rest


def built_from() -> set[str]:
    """Files of the build's context, by docker's own reading of `.dockerignore`."""
    patterns = [
        line for line in (ROOT / ".dockerignore").read_text().splitlines() if line.strip() and not line.startswith("#")
    ]
    return set(exclude_paths(str(ROOT), patterns, dockerfile="docker/Dockerfile"))


def test_what_the_image_copies_is_in_the_context_and_nothing_else() -> None:
    context = built_from()
    copied = [
        source
        for word, rest in instructions()
        if word == "COPY" and not rest.startswith("--from")
        for source in rest.split()[:-1]
    ]
    assert not [source for source in copied if source not in context]
    always = {".dockerignore", "docker/Dockerfile"}
    needless = [path for path in context - always if not any(f"{path}/".startswith(f"{source}/") for source in copied)]
    assert not needless
    packages = {path.parent.relative_to(ROOT).parts[0] for path in ROOT.glob("*/__init__.py")}
    assert packages <= set(copied)


def test_both_stages_have_the_same_pinned_base() -> None:
    arguments = dict(rest.split("=", 1) for word, rest in instructions() if word == "ARG")
    assert re.fullmatch(r"python:3\.\d+\.\d+-slim-\w+(@sha256:[0-9a-f]{64})?", arguments["PYTHON_IMAGE"])
    assert [rest for word, rest in instructions() if word == "FROM"] == ["${PYTHON_IMAGE} AS build", "${PYTHON_IMAGE}"]


def test_image_installs_by_hash_and_runs_as_the_user_of_the_services() -> None:
    words = list(instructions())
    installs = [
        part
        for word, rest in words
        if word == "RUN"
        for part in rest.split("&&")
        if " pip install" in part or part.startswith("pip install")
    ]
    assert len(installs) == 3
    assert all("--require-hashes" in part or "--no-deps" in part for part in installs)
    final = words[max(index for index, (word, _) in enumerate(words) if word == "FROM") :]
    assert not [rest for word, rest in final if word == "RUN" and re.search(r"apt|pip|uv |gcc", rest)]
    assert [rest for word, rest in final if word == "USER"] == ["10001:10001"]
    assert {SERVICES[name]["user"] for name in ("deployments", "worker", "app")} == {"10001:10001"}
    label = next(rest for word, rest in final if word == "LABEL")
    assert f'image.version="{version()}"' in label


def test_deployments_are_the_flows() -> None:
    deployments = yaml.safe_load((DOCKER / "prefect.yaml").read_text())["deployments"]
    assert {load_flow_from_entrypoint(one["entrypoint"]).name for one in deployments} == {"prepare", "produce"}
    (pool,) = {one["work_pool"]["name"] for one in deployments}
    assert SERVICES["worker"]["command"][:4] == ["worker", "start", "--pool", pool]


# -- scripts and linters -----------------------------------------------------------------------------------------------


@pytest.fixture
def secrets(tmp_path: Path) -> Path:
    folder = tmp_path / "secrets"
    out = run("sh", DOCKER / "make-secrets.sh", folder)
    assert out.returncode == 0, out.stderr
    return folder


def test_secrets_are_made_once_and_fit_together(secrets: Path) -> None:
    values = {path.name: path.read_text() for path in secrets.iterdir()}
    assert values.keys() == written()["secrets"].keys()
    assert re.fullmatch("[0-9a-f]{48}", values["neo4j_password"])
    assert values["neo4j_auth"] == f"neo4j/{values['neo4j_password']}"
    assert re.fullmatch("graph2image:[0-9a-f]{48}", values["prefect_auth"])
    assert len({values["neo4j_password"], values["postgres_password"], values["prefect_auth"].split(":")[1]}) == 3
    again = run("sh", DOCKER / "make-secrets.sh", secrets)
    assert again.returncode == 0, again.stderr
    assert {path.name: path.read_text() for path in secrets.iterdir()} == values
    assert not [value for value in values.values() if value in again.stdout + again.stderr]


def test_secrets_are_closed_to_other_users_of_the_host_and_open_to_every_container(secrets: Path) -> None:
    assert stat.S_IMODE(secrets.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in secrets.iterdir()} == {0o444}


SHOW = "import json, os, sys; print(json.dumps([sys.argv[1:], dict(os.environ)]))"


def test_command_gets_its_secrets_from_the_files(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("a 'b' \"c\" $d \\e\n")
    out = run(
        "sh",
        DOCKER / "with-secrets.sh",
        *(sys.executable, "-c", SHOW, "an argument", "*"),
        PREFECT_SERVER_DATABASE_PASSWORD_FILE=str(tmp_path / "password"),
        GRAPH2IMAGE_NEO4J_PASSWORD_FILE="/left/alone",
    )
    arguments, environment = json.loads(out.stdout)
    assert arguments == ["an argument", "*"]
    assert environment["PREFECT_SERVER_DATABASE_PASSWORD"] == "a 'b' \"c\" $d \\e"
    assert environment["GRAPH2IMAGE_NEO4J_PASSWORD_FILE"] == "/left/alone"
    assert "PREFECT_SERVER_DATABASE_PASSWORD_FILE" not in environment


@pytest.mark.parametrize("content", [None, ""])
def test_command_does_not_start_without_its_secret(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "auth").write_text(content)
    out = run("sh", DOCKER / "with-secrets.sh", "echo", "ran", PREFECT_API_AUTH_STRING_FILE=str(tmp_path / "auth"))
    assert out.returncode != 0
    assert "ran" not in out.stdout
    assert "PREFECT_API_AUTH_STRING_FILE" in out.stderr


@pytest.mark.slow
def test_prefect_makes_the_address_of_its_database_from_the_settings(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("p@ss/word:1%")
    environment = {
        name: str(value)
        for name, value in SERVICES["prefect-server"]["environment"].items()
        if name.startswith("PREFECT_SERVER_DATABASE_")
    }
    environment["PREFECT_SERVER_DATABASE_PASSWORD_FILE"] = str(tmp_path / "password")
    script = (
        "from prefect.settings import get_current_settings as settings\n"
        "print(settings().server.database.connection_url.get_secret_value())"
    )
    out = run(
        "sh",
        *(DOCKER / "with-secrets.sh", sys.executable, "-c", script),
        PREFECT_HOME=str(tmp_path),
        **environment,
    )
    assert out.stdout.strip() == "postgresql+asyncpg://prefect:p%40ss%2Fword%3A1%25@postgres:5432/prefect"


def test_linters_find_nothing() -> None:
    for command in (
        (tool("hadolint"), DOCKER / "Dockerfile"),
        (tool("shellcheck"), *sorted(DOCKER.glob("*.sh"))),
        (tool("compose-lint"), "--fail-on", "high", COMPOSE),
    ):
        out = run(*command)
        assert out.returncode == 0, out.stdout + out.stderr
