"""Studies: a file names variants of a training, its neighbors and its images; all are made and compared on one page."""
