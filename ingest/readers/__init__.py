"""One reader per upstream format; each yields `ingest.records`, one per row, in the order of the file."""
