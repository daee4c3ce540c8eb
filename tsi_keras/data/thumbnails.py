"""A few stored videos as small pictures, for a page that a person looks at."""

import base64
import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import simplejpeg
from PIL import Image

from tsi_keras.data.dataset_info import DatasetInfo

MOST_VIDEOS = 48
_FRAMES = 3
_HEIGHT = 72
_QUALITY = 70


@dataclass(frozen=True)
class Thumbnail:
    """One stored video: what it is called, and some of its frames side by side."""

    id: str
    class_name: str
    split: str
    data_uri: str


def sample_thumbnails(
    info: DatasetInfo, most: int = MOST_VIDEOS
) -> Iterator[Thumbnail]:
    """Show the first videos of shards spread over the data set.

    Shards are shuffled, so these are as good as drawn; and reading the beginning of
    few files takes the same time whatever the size of the data set.

    Args:
        info: a data set whose shards are there.
        most: number of videos.

    Yields:
        The videos, split by split, about 5 kB each.
    """
    # Only here: bad input must be refused without waiting for TensorFlow.
    import tensorflow as tf

    from tsi_keras.data.records import parse_record

    shards = [
        (name, shard)
        for name, split in info.splits.items()
        for shard in split.shards
        if shard.num_videos
    ]
    if not shards:
        return
    count = min(most, len(shards))
    chosen = [shards[i * len(shards) // count] for i in range(count)]
    for split, shard in chosen:
        records = tf.data.TFRecordDataset(str(info.folder / shard.name))
        for record in records.take(most // count).map(parse_record):
            yield _thumbnail(record, split)


def _thumbnail(record: dict[str, Any], split: str) -> Thumbnail:
    """Three frames of one record."""
    jpegs = record["frames"].numpy()
    places = np.linspace(0, len(jpegs) - 1, min(_FRAMES, len(jpegs))).round()
    strip = np.concatenate([_small(jpegs[int(i)]) for i in places], axis=1)
    file = io.BytesIO()
    Image.fromarray(strip).save(file, "JPEG", quality=_QUALITY)
    return Thumbnail(
        id=record["id"].numpy().decode("utf-8"),
        class_name=record["class_name"].numpy().decode("utf-8"),
        split=split,
        data_uri="data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode(),
    )


def _small(jpeg: bytes) -> np.ndarray:
    """A frame, 72 pixels high and at most twice as wide: uint8 `(72, W, 3)`."""
    image = Image.fromarray(simplejpeg.decode_jpeg(jpeg, min_height=_HEIGHT))
    width = round(image.width * _HEIGHT / image.height)
    return np.asarray(image.resize((max(1, min(width, 2 * _HEIGHT)), _HEIGHT)))
