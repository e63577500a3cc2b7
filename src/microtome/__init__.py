"""microtome: glass slides in, pathology foundation models and the figures that judge them out."""

__version__ = "0.1.0"
