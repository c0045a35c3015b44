"""A broker for umbel that is a directory of files."""
