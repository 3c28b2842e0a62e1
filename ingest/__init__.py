"""Source files to Parquet: readers, images, encoders, and the datasets that everything else reads."""
