"""Layouts: the ways in which pictures, captions and split lists lie in a dataset's folder."""
