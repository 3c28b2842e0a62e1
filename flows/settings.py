"""Where the data and the graph live: an option, the environment, `graph2image.toml`, or the default, in this order."""

from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from pydantic import Field
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, TomlConfigSettingsSource

from ingest.errors import Graph2ImageError, explain_validation, first_line

if TYPE_CHECKING:
    from graphstore.store import GraphStore
    from ingest.datasets.root import DataRoot

CONFIG_FILE = "graph2image.toml"


class Settings(BaseSettings):
    """The two places that every command needs, who signs in, and how images are fetched.

    No password is among them: settings are shown, logged and handed to Prefect.

    Attributes
    ----------
    data
        Root of the Parquet datasets, images and models: a path or any `fsspec` URL.
    store
        URL of the graph store; by default an embedded database inside a local `data` root.
    neo4j_user, neo4j_password_file
        Who signs in to a Neo4j server, and the file that holds the password; `Access` has more ways.
    fetch
        Settings of `ingest.images.fetch.FetchSettings` that are not the default, such as `per_host_rate`; a table in
        the file.
    """

    model_config = SettingsConfigDict(env_prefix="GRAPH2IMAGE_", toml_file=CONFIG_FILE, extra="forbid")

    data: str = "graph2image-data"
    store: str | None = None
    neo4j_user: str = "neo4j"
    neo4j_password_file: Path | None = None
    fetch: dict[str, Any] = Field(default_factory=dict)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls)

    @property
    def data_root(self) -> "DataRoot":
        """The root of the datasets, images and models."""
        from ingest.datasets.root import DataRoot  # heavy: `--help` needs none of it

        return DataRoot(self.data)

    @property
    def store_url(self) -> str:
        """URL of the graph store, the default filled in.

        Raises
        ------
        Graph2ImageError
            If the data root is remote and no store is named: an embedded database needs a local file. If the URL holds
            a user or a password.
        """
        if self.store is not None:
            try:
                place = urlsplit(self.store).netloc
            except ValueError as error:
                raise Graph2ImageError(
                    f"the URL of the graph store is none: {error}",
                    "Give one such as ladybug:///path/graph.lbug or neo4j://localhost:7687.",
                ) from None
            if "@" in place:  # it is shown by several commands
                raise Graph2ImageError(
                    "the URL of the graph store holds a user or a password",
                    "Set GRAPH2IMAGE_NEO4J_USER and GRAPH2IMAGE_NEO4J_PASSWORD_FILE instead.",
                )
            return self.store
        if "://" in self.data and not self.data.startswith("file://"):
            raise Graph2ImageError(
                f"the data root {self.data} is remote, so there is no default place for the graph",
                "Name a store with --store or GRAPH2IMAGE_STORE, for instance ladybug:///srv/graph.lbug.",
            )
        return f"ladybug://{Path(self.data.removeprefix('file://')).resolve() / 'graph.lbug'}"

    def open_store(self, *, read_only: bool = False) -> "GraphStore":
        """Open the graph store, as `graphstore.connect.open_store` does."""
        from graphstore.connect import open_store  # heavy: `--help` needs none of it
        from graphstore.store import Access  # heavy: `--help` needs none of it

        access = Access(self.neo4j_user, self.neo4j_password_file)
        return open_store(self.store_url, read_only=read_only, access=access)

    def open_graph(self, *, read_only: bool = False) -> "GraphStore":
        """Open the graph store for what must honor opt-outs: its own and the data root's, which are united first."""
        from graphstore.optouts import has_all_opt_outs, publish_opt_outs

        data = self.data_root
        store = self.open_store(read_only=read_only)
        try:
            if read_only and not has_all_opt_outs(store, data):
                store.close()
                with self.open_store() as writable:
                    _take_opt_outs(writable, data)
                store = self.open_store(read_only=True)
            elif not read_only:
                _take_opt_outs(store, data)
            publish_opt_outs(store, data)
        except BaseException:
            store.close()
            raise
        return store


def _take_opt_outs(store: "GraphStore", data: "DataRoot") -> None:
    """Bring the data root's opt-outs to the store, and mark what they touch."""
    from flows.trained import trained_models
    from graphstore.optouts import take_opt_outs
    from graphstore.registry import mark_stale

    if take_opt_outs(store, data):
        mark_stale(store, data, trained_models(data))


def load_settings(**overrides: str | None) -> Settings:
    """Settings with `overrides` (command-line options that were given) on top.

    Raises
    ------
    Graph2ImageError
        If the environment or `graph2image.toml` holds something that is not a setting.
    """
    given: dict[str, Any] = {key: value for key, value in overrides.items() if value is not None}
    try:
        with explain_validation("settings", f"See {CONFIG_FILE} and the variables GRAPH2IMAGE_*."):
            return Settings(**given)
    except ValueError as error:  # the file is no TOML
        raise Graph2ImageError(f"{CONFIG_FILE}: {first_line(error)}") from error
