"""The networks: no module here knows a configuration or a data root."""
