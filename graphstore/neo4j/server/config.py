"""The configuration of a local Neo4j: what keeps it private, and what a user may set."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from ingest.errors import Graph2ImageError

HOST = "127.0.0.1"

_SETTING = re.compile(r"[a-z][A-Za-z0-9_.]*")


def configuration(jars: Path, port: int, page_cache: str, settings: Mapping[str, str]) -> dict[str, str]:
    """All settings of a server that listens on `port` of the loopback interface; `settings` are the user's.

    Raises
    ------
    Graph2ImageError
        If one of the user's is no setting, or would open the server to others.
    """
    private = {
        "server.default_listen_address": HOST,
        "server.bolt.listen_address": f"{HOST}:{port}",
        "server.bolt.advertised_address": f"{HOST}:{port}",
        "server.http.enabled": "false",
        "server.https.enabled": "false",
        "server.directories.plugins": str(jars / "plugins"),
        "dbms.security.auth_enabled": "true",
        "dbms.security.allow_csv_import_from_file_urls": "false",
        "dbms.usage_report.enabled": "false",
    }
    defaults = {
        "server.memory.pagecache.size": page_cache,
        "dbms.security.procedures.unrestricted": "gds.*",
        "db.logs.query.enabled": "OFF",
        "db.tx_log.preallocate": "false",
        "internal.dbms.bolt.netty_server_shutdown_quiet_period": "0",
    }
    for key, value in settings.items():
        if key in private:
            raise Graph2ImageError(f"setting {key} is not to be changed", "It keeps the server private to you.")
        if not _SETTING.fullmatch(key) or not value.isprintable():
            raise Graph2ImageError(f"{key}={value} is not a Neo4j setting", "Such as db.checkpoint.interval.time=5m.")
    return private | defaults | dict(settings)


def write_configuration(home: Path, settings: Mapping[str, str]) -> None:
    """Write `neo4j.conf` under `home`, and make the folders that Neo4j expects there."""
    for name in ("conf", "import"):
        (home / name).mkdir(exist_ok=True)
    lines = ["{}={}\n".format(key, value.replace("\\", "\\\\")) for key, value in settings.items()]
    (home / "conf" / "neo4j.conf").write_text("".join(lines))
