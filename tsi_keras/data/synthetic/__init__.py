"""Synthetic action videos in which no single frame tells the class.

Real H.264 files of a textured object that acts before a textured background under a
moving camera, for demonstrations and tests: whoever classifies them must look at the
order of the frames. `python -m tsi_keras.data.synthetic --help` writes a data set.
"""

from tsi_keras.data.synthetic.motions import CLASSES
from tsi_keras.data.synthetic.options import SyntheticOptions
from tsi_keras.data.synthetic.rendering import render_clip
from tsi_keras.data.synthetic.writing import video_seed
from tsi_keras.data.synthetic.writing import write_dataset
from tsi_keras.data.synthetic.writing import write_video

__all__ = [
    "CLASSES",
    "SyntheticOptions",
    "render_clip",
    "video_seed",
    "write_dataset",
    "write_video",
]
