"""One reader per upstream format, in the order of its file; each yields `ingest.batches` or `ingest.records`."""
