"""microtome: glass slides in, pathology foundation models and the figures that judge them out."""

import gc
import sys

__version__ = "0.1.0"

if sys.argv[0] == "-m":  # `python -m microtome.…`: no looking for garbage while torch is imported, a fifth of a job's start; `run` ends it
    gc.disable()
