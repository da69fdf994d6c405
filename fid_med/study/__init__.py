"""Disturbance study: whether the FID of each extractor rises as real images are degraded."""
