"""Datasets, splits, the cache at training size, and the streams of batches."""
