"""Which videos there are and what they show, whatever the list looks like.

Folders of class folders, CSV files and the files of published data sets all become
one list of `VideoEntry`, which `write_manifest` writes and `read_annotations` reads
back. `scan` is the way in.
"""

from tsi_keras.data.annotations.class_lists import read_class_names
from tsi_keras.data.annotations.entries import Annotations
from tsi_keras.data.annotations.entries import FrameFiles
from tsi_keras.data.annotations.entries import VideoEntry
from tsi_keras.data.annotations.entries import default_group
from tsi_keras.data.annotations.manifest import write_manifest
from tsi_keras.data.annotations.manifest_rows import COLUMNS
from tsi_keras.data.annotations.media import VIDEO_SUFFIXES
from tsi_keras.data.annotations.reading import FORMATS
from tsi_keras.data.annotations.reading import read_annotations
from tsi_keras.data.annotations.reading import scan

__all__ = [
    "COLUMNS",
    "FORMATS",
    "VIDEO_SUFFIXES",
    "Annotations",
    "FrameFiles",
    "VideoEntry",
    "default_group",
    "read_annotations",
    "read_class_names",
    "scan",
    "write_manifest",
]
