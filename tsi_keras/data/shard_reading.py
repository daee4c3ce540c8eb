"""Read shards for a check-up: what is in each record, whole or not."""

import hashlib
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from dataclasses import field
from pathlib import Path
from typing import Any

import numpy as np
import simplejpeg

from tsi_keras.data.remote import RemoteNotFound
from tsi_keras.data.remote import RemotePath
from tsi_keras.data.remote import local_copy
from tsi_keras.utils.files import file_sha256
from tsi_keras.utils.urls import is_remote

SIGNATURE_FRAMES = 4
_HASH_ROWS, _HASH_COLUMNS = 8, 9  # 8 x 8 comparisons of neighbours: 64 bits a frame
_FEWEST_BITS = 24  # of either kind
_TENSORFLOW_MESSAGE = 160


@dataclass(slots=True)
class RecordFacts:
    """What a record holds and what is wrong with it.

    Attributes:
        id: id of the video; empty when the record cannot be parsed.
        label: class index.
        class_name: class as text.
        num_frames: frames it really holds.
        fps: frames per second of these.
        source_seconds: length of the video file; 0 if not known.
        content: first 16 hexadecimal digits of the SHA-256 of all frames.
        signature: 256 bits of a perceptual hash of four frames, as bytes; empty for
            pictures with hardly any structure.
        problems: what is broken, one sentence each.
    """

    id: str = ""
    label: int = -1
    class_name: str = ""
    num_frames: int = 0
    fps: float = 0.0
    source_seconds: float = 0.0
    content: str = ""
    signature: bytes = b""
    problems: list[str] = field(default_factory=list)


@dataclass
class ShardFacts:
    """What one shard holds: its records, and why it cannot be read (further)."""

    name: str
    sha256: str
    records: list[RecordFacts]
    problem: str = ""


def read_shard(folder: Path | RemotePath, name: str) -> ShardFacts:
    """Read a shard, decode every frame in it.

    Args:
        folder: folder of the data set; a shard on remote storage is copied first.
        name: name of the TFRecord file.

    Returns:
        What was found; a damaged file gives the records before the damage.

    Raises:
        RemoteError: the storage does not give the shard for a reason of its own.
    """
    path = folder / name
    try:
        with local_copy(path) if is_remote(path) else nullcontext(path) as file:
            return _read_file(name, file)
    except RemoteNotFound:
        return ShardFacts(name, "", [], "it cannot be read: it does not exist")
    except OSError as error:
        return ShardFacts(name, "", [], f"it cannot be read: {error.strerror}")


def _read_file(name: str, path: Path) -> ShardFacts:
    """Facts of the shard in a local file."""
    import tensorflow as tf

    from tsi_keras.data.autotuning import untuned

    facts = ShardFacts(name, file_sha256(path), [])
    try:
        records = untuned(tf.data.TFRecordDataset(str(path)))
        for serialized in records.as_numpy_iterator():
            facts.records.append(read_record(serialized))
    except tf.errors.OpError as error:
        message = " ".join(error.message.split())[:_TENSORFLOW_MESSAGE]
        facts.problem = f"it ends in damage after {len(facts.records)} records: "
        facts.problem += message
    return facts


def read_record(serialized: bytes) -> RecordFacts:
    """Parse a record and decode all its frames.

    Args:
        serialized: a `tf.train.SequenceExample` of `encode_record`.

    Returns:
        What it holds; never raises for a damaged record.
    """
    import tensorflow as tf
    from google.protobuf.message import DecodeError

    facts = RecordFacts()
    try:
        example = tf.train.SequenceExample.FromString(serialized)
        size = _read_context(example, facts)
    except (DecodeError, LookupError, UnicodeDecodeError) as error:
        facts.problems.append(f"the record cannot be parsed: {error}")
        return facts
    _read_frames(list(_jpegs(example)), size, facts)
    return facts


def _read_context(example: Any, facts: RecordFacts) -> tuple[int, int]:
    """Fill in what the context says; give height and width."""
    from tsi_keras.data import records as keys

    context = example.context.feature
    whole = (keys.LABEL, keys.NUM_FRAMES, keys.SOURCE_NUM_FRAMES)
    whole += (keys.HEIGHT, keys.WIDTH)
    number = {key: context[key].int64_list.value[0] for key in whole}
    facts.id = context[keys.VIDEO_ID].bytes_list.value[0].decode("utf-8")
    facts.class_name = context[keys.CLASS_NAME].bytes_list.value[0].decode("utf-8")
    facts.label = number[keys.LABEL]
    facts.fps = context[keys.FPS].float_list.value[0]
    facts.num_frames = len(example.feature_lists.feature_list[keys.FRAMES].feature)
    if facts.num_frames != number[keys.NUM_FRAMES]:
        facts.problems.append(
            f"it holds {facts.num_frames} frames and announces "
            f"{number[keys.NUM_FRAMES]}"
        )
    rate = context[keys.SOURCE_FPS].float_list.value[0]
    facts.source_seconds = number[keys.SOURCE_NUM_FRAMES] / rate if rate > 0 else 0.0
    return number[keys.HEIGHT], number[keys.WIDTH]


def _jpegs(example: Any) -> Iterator[bytes]:
    from tsi_keras.data.records import FRAMES

    for feature in example.feature_lists.feature_list[FRAMES].feature:
        yield feature.bytes_list.value[0] if feature.bytes_list.value else b""


def _read_frames(jpegs: list[bytes], size: tuple[int, int], facts: RecordFacts) -> None:
    """Decode every frame; note damage, wrong sizes, content and signature."""
    digest = hashlib.sha256()
    sampled = {
        (2 * i + 1) * len(jpegs) // (2 * SIGNATURE_FRAMES)
        for i in range(SIGNATURE_FRAMES)
    }
    hashes = {}
    for index, jpeg in enumerate(jpegs):
        digest.update(jpeg)
        try:
            grey = simplejpeg.decode_jpeg(jpeg, "GRAY", strict=True)
        except ValueError as error:
            facts.problems.append(f"frame {index} cannot be decoded: {error}")
            continue
        if grey.shape[:2] != size:
            facts.problems.append(
                f"frame {index} is {grey.shape[0]}x{grey.shape[1]}, the record says "
                f"{size[0]}x{size[1]}"
            )
        if index in sampled:
            hashes[index] = difference_hash(grey[..., 0])
    facts.content = digest.hexdigest()[:16]
    if jpegs and not facts.problems:
        facts.signature = _signature(jpegs, hashes)


def _signature(jpegs: list[bytes], hashes: dict[int, bytes]) -> bytes:
    """Hashes of four frames spread over the video; videos of fewer repeat some."""
    signature = b"".join(
        hashes[(2 * i + 1) * len(jpegs) // (2 * SIGNATURE_FRAMES)]
        for i in range(SIGNATURE_FRAMES)
    )
    ones = sum(byte.bit_count() for byte in signature)
    # A wall or a ramp of light looks like every other wall or ramp.
    return signature if _FEWEST_BITS <= ones <= 256 - _FEWEST_BITS else b""


def difference_hash(grey: np.ndarray) -> bytes:
    """64 bits that survive another size, rate or codec: is it brighter to the right?

    Args:
        grey: uint8 `(H, W)`.

    Returns:
        8 bytes.
    """
    rows = np.linspace(0, grey.shape[0], _HASH_ROWS + 1).astype(int)
    columns = np.linspace(0, grey.shape[1], _HASH_COLUMNS + 1).astype(int)
    sums = np.add.reduceat(grey.astype(np.int64), rows[:-1].clip(max=len(grey) - 1))
    sums = np.add.reduceat(sums, columns[:-1].clip(max=grey.shape[1] - 1), axis=1)
    areas = np.diff(rows).clip(1)[:, None] * np.diff(columns).clip(1)
    means = sums / areas
    # A step of at least one grey level: noise on a flat wall decides nothing.
    return np.packbits(np.diff(means, axis=1) > 1).tobytes()
