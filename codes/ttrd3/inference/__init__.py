"""Upscaling with trained weights: the Python API, tiles of scenes of any size, references, rasters."""
