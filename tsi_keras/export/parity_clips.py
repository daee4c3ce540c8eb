"""The clips that all forms of a model are compared on."""

from collections.abc import Iterable
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from tsi_keras.data.clip_options import ClipOptions
from tsi_keras.data.dataset_info import DatasetInfo
from tsi_keras.data.preprocessing import decode_frames
from tsi_keras.data.preprocessing import resize_and_center_crop
from tsi_keras.data.records import encode_record
from tsi_keras.data.records import parse_record
from tsi_keras.data.sampling import clip_indices
from tsi_keras.evaluation.tensorflow_errors import readable_records


@dataclass(frozen=True)
class ParityClips:
    """Clips to compare on, as records and as the JPEG frames chosen from them.

    Attributes:
        source: "records" or "random".
        ids: one name per clip.
        jpegs: per clip a list of T JPEG files.
        records: per clip the serialized `tf.train.SequenceExample` of its video.
        data: the data set and split the records came from, or None.
    """

    source: str
    ids: list[str]
    jpegs: list[list[bytes]]
    records: list[bytes]
    data: dict[str, str] | None = None

    def inputs(self, options: ClipOptions) -> dict[str, Iterable]:
        """Return what each known signature takes, one element per clip.

        `serving_default` is decoded, resized and cropped as in the evaluation, clip by
        clip and anew whenever it is iterated, for it is large.
        """
        return {
            "serving_default": EvaluationFrames(self.jpegs, options),
            "serve_jpeg": self.jpegs,
            "serve_example": self.records,
        }


@dataclass(frozen=True)
class EvaluationFrames:
    """Evaluation frames, uint8 (T, S, S, 3), of JPEG frames."""

    jpegs: list[list[bytes]]
    options: ClipOptions

    def __iter__(self) -> Iterator[np.ndarray]:
        for frames in self.jpegs:
            yield resize_and_center_crop(
                decode_frames(tf.constant(frames)),
                short_side=self.options.short_side,
                crop_size=self.options.crop_size,
            ).numpy()


def record_clips(
    info: DatasetInfo, split: str, count: int, options: ClipOptions
) -> ParityClips:
    """Return the evaluation's clips of the first `count` videos of a split.

    Args:
        info: the data set.
        split: name of the split.
        count: how many clips; fewer if the split is smaller.
        options: frames per clip and their sampling.

    Raises:
        InputError: the split or a shard is missing, or a record is damaged.
    """
    stored = tf.data.TFRecordDataset(info.shard_paths(split)).take(count)
    ids, jpegs, records = [], [], []
    with readable_records(info, split):
        parsed = stored.map(lambda record: (record, parse_record(record)))
        for record, video in parsed.as_numpy_iterator():
            ids.append(video["id"].decode("utf-8"))
            jpegs.append(_chosen(list(video["frames"]), options))
            records.append(record)
    data = {
        "folder": str(info.folder),
        "split": split,
        "fingerprint": info.fingerprint,
    }
    return ParityClips("records", ids, jpegs, records, data)


def random_clips(options: ClipOptions, count: int, *, seed: int = 0) -> ParityClips:
    """Return clips of uniform noise, for an export without data at hand.

    Args:
        options: clip length and sizes; frames are a third wider than high.
        count: how many clips.
        seed: of the noise.
    """
    rng = np.random.default_rng(seed)
    height, width = options.short_side, options.short_side * 4 // 3
    ids, jpegs, records = [], [], []
    for number in range(count):
        shape = (options.num_frames, height, width, 3)
        noise = rng.integers(256, size=shape, dtype=np.uint8)
        frames = [tf.io.encode_jpeg(frame, quality=95).numpy() for frame in noise]
        ids.append(f"random {number}")
        jpegs.append(_chosen(frames, options))
        records.append(
            encode_record(
                video_id=ids[-1],
                label=0,
                class_name="noise",
                jpegs=frames,
                height=height,
                width=width,
                fps=1.0,
                source_num_frames=len(frames),
                source_fps=1.0,
            )
        )
    return ParityClips("random", ids, jpegs, records)


def _chosen(frames: list[bytes], options: ClipOptions) -> list[bytes]:
    """The evaluation's frames of a video."""
    [chosen] = clip_indices(len(frames), options.num_frames, options.sampling)
    return [frames[i] for i in chosen]
