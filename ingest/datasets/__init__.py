"""The data root and the Parquet datasets in it: what every stage shares."""
