"""One way into all annotation formats."""

from collections.abc import Callable
from collections.abc import Sequence
from pathlib import Path

from tsi_keras.data.annotations.class_lists import read_class_names
from tsi_keras.data.annotations.detection import annotation_files
from tsi_keras.data.annotations.detection import format_of_files
from tsi_keras.data.annotations.detection import format_of_folder
from tsi_keras.data.annotations.detection import has_class_folders
from tsi_keras.data.annotations.diving48 import read_diving48
from tsi_keras.data.annotations.entries import Annotations
from tsi_keras.data.annotations.entries import FrameFiles
from tsi_keras.data.annotations.entries import VideoEntry
from tsi_keras.data.annotations.folders import read_class_folders
from tsi_keras.data.annotations.folders import read_frame_folders
from tsi_keras.data.annotations.frame_names import problem_of
from tsi_keras.data.annotations.kinetics import read_kinetics
from tsi_keras.data.annotations.listed import Request
from tsi_keras.data.annotations.manifest import read_manifest
from tsi_keras.data.annotations.something import read_jester
from tsi_keras.data.annotations.something import read_something_v1
from tsi_keras.data.annotations.something import read_something_v2
from tsi_keras.data.annotations.split_files import read_hmdb51
from tsi_keras.data.annotations.split_files import read_ucf101
from tsi_keras.utils.errors import InputError
from tsi_keras.utils.urls import is_remote

_PUBLISHED: dict[str, Callable[[Request], Annotations]] = {
    "something-v1": read_something_v1,
    "something-v2": read_something_v2,
    "kinetics": read_kinetics,
    "ucf101": read_ucf101,
    "hmdb51": read_hmdb51,
    "jester": read_jester,
    "diving48": read_diving48,
}
_WITH_SPLIT_NUMBER = ("ucf101", "hmdb51")
_LISTS = ("csv", "jsonl")
FORMATS = ("auto", "folder", "frames", *_LISTS, *_PUBLISHED)


def read_annotations(source: str | Path, **options) -> list[VideoEntry]:
    """List the labelled videos of an input; see `scan` for the arguments.

    Args:
        source: folder of class folders (`class_name/video.mp4`), CSV file, or folder
            of the videos of a published data set.
        **options: as for `scan`.

    Returns:
        The videos, sorted by id; at least two classes.

    Raises:
        InputError: the input is missing, empty or malformed, or has one class only.

    Example:
        ```python
        for entry in read_annotations("my_videos"):
            print(entry.label, entry.path)
        ```
    """
    return scan(source, **options).entries


def scan(
    source: str | Path,
    *,
    format: str = "auto",
    annotations: str | Path | Sequence[str | Path] | None = None,
    labels: str | Path | None = None,
    split_number: int | None = None,
    frame_files: FrameFiles | None = None,
) -> Annotations:
    """List the labelled videos of an input, and what was left aside and why.

    Args:
        source: the folder of the videos, or a manifest: a CSV file (`path,label`, see
            `read_manifest`) or JSON lines.
        format: one of `FORMATS`; "auto" recognises it where that is safe.
        annotations: annotation files of a published data set, or the folder they lie
            in; `None` looks in `source` and its folders for annotations. Also a
            manifest, whose relative paths then count from `source`.
        labels: list of the classes in the order of the labels, see
            `read_class_names`; `None` takes the one among the annotation files.
        split_number: which official split, 1 to 3 (UCF-101, HMDB-51; 1 by default).
        frame_files: names and rate of raw frames, where videos are folders of images;
            needed for the rate, except for Something-Something V1 and Jester.

    Returns:
        The annotations, sorted by id.

    Raises:
        InputError: the input is missing, empty, malformed or ambiguous, has one class
            only, or an argument means nothing for its format.

    Example:
        ```python
        found = scan("kinetics/videos", annotations="kinetics/train.csv")
        print(len(found.entries), found.skipped[:3], found.class_names[:3])
        ```
    """
    if format not in FORMATS:
        raise InputError(
            f"`--format` must be one of {', '.join(FORMATS)}. Received: {format!r}"
        )
    if problem := frame_files and problem_of(frame_files):
        raise InputError(f"raw frames: {problem}")
    if is_remote(source):
        return _scan_remote(source, format, annotations, labels, frame_files)
    source = _existing("--input", source)
    files = _files(annotations)
    labels = None if labels is None else _existing("--labels", labels)
    name = _detect(source, files) if format == "auto" else format
    _check_arguments(name, split_number, bool(files))
    if name in _PUBLISHED and not files and source.is_dir():
        files = tuple(annotation_files(source))
    request = Request(source, files, labels, split_number, frame_files)
    found = _read(name, request)
    found.format = name
    found.files = [*request.files, *([labels] if labels else [])]
    _check_text(found)
    found.entries.sort(key=lambda entry: entry.id)
    _check_classes(found, source)
    return found


def _scan_remote(source, format, annotations, labels, frame_files) -> Annotations:
    """Remote inputs, which are listed but not looked into."""
    from tsi_keras.data.remote_input import scan_remote

    if frame_files is not None:
        raise InputError(f"`--input` {source}: raw frames must be local files.")
    found = scan_remote(source, format=format, annotations=annotations, labels=labels)
    found.entries.sort(key=lambda entry: entry.id)
    _check_classes(found, source)
    return found


def _existing(option: str, path: str | Path) -> Path:
    path = Path(path).expanduser().absolute()
    if not path.exists():
        advice = ""
        if option == "--input":
            advice = "; give a folder of class folders or a CSV file"
        raise InputError(f"`{option}` {path} does not exist{advice}.")
    return path


def _files(annotations) -> tuple[Path, ...]:
    """The annotation files that were asked for, folders resolved."""
    if annotations is None:
        return ()
    if isinstance(annotations, (str, Path)):
        annotations = [annotations]
    files = []
    for path in annotations:
        path = _existing("--annotations", path)
        files.extend(annotation_files(path) if path.is_dir() else [path])
    if not files:
        given = ", ".join(str(path) for path in annotations)
        raise InputError(f"`--annotations` {given} holds no annotation files.")
    return tuple(files)


def _detect(source: Path, files: tuple[Path, ...]) -> str:
    """Recognise the format, or say why it cannot be."""
    if source.is_file():
        return _detect_file(source)
    if files:
        name = format_of_files(files)
        if name is None and len(files) == 1 and files[0].suffix.lower() == ".jsonl":
            name = "jsonl"
        if name is None:
            raise InputError(
                f"the format of {', '.join(path.name for path in files[:4])} cannot "
                f"be told; give --format, one of {', '.join(FORMATS[1:])}."
            )
        return name
    return _detect_folder(source)


def _detect_file(source: Path) -> str:
    suffix = source.suffix.lower()
    if suffix == ".jsonl":
        return "jsonl"
    name = format_of_files([source])
    if name in _PUBLISHED:
        raise InputError(
            f"`--input` {source} is an annotation file of {name}; give the folder of "
            "the videos as --input and this file as --annotations."
        )
    if suffix != ".csv":
        raise InputError(
            f"`--input` must be a folder or a .csv file (or .jsonl). Received: {source}"
        )
    return "csv"


def _detect_folder(source: Path) -> str:
    """Annotation files inside the folder count, if nothing speaks against them."""
    name = format_of_files(annotation_files(source))
    if name is None or name in _LISTS:
        return format_of_folder(source)
    if has_class_folders(source):
        raise InputError(
            f"`--input` {source} holds class folders and annotation files of {name}; "
            f"give --format {name}, or --format folder to leave the files aside."
        )
    return name


def _check_arguments(name: str, split_number: int | None, has_files: bool) -> None:
    """Refuse what the format would silently ignore."""
    if split_number is not None and name not in _WITH_SPLIT_NUMBER:
        raise InputError(
            f"`--split-number` is for {' and '.join(_WITH_SPLIT_NUMBER)}; the format "
            f"is {name}."
        )
    if has_files and name in ("folder", "frames"):
        raise InputError(
            f"`--annotations` means nothing for the format {name}, whose folders tell "
            "the classes; leave it out or give another --format."
        )


def _read(name: str, request: Request) -> Annotations:
    if name in _PUBLISHED:
        return _read_published(name, request)
    if name in _LISTS:
        return _read_list(request)
    if not request.root.is_dir():
        raise InputError(f"`--format {name}` needs a folder as `--input`.")
    if name == "folder":
        found = read_class_folders(request.root)
    else:
        found = read_frame_folders(request.root, _with_rate(request.frames))
    return _with_class_list(found, request.labels)


def _with_rate(frames: FrameFiles | None) -> FrameFiles:
    if frames is None or frames.fps is None:
        raise InputError(
            "`--input` holds raw frames, which do not tell their rate; give "
            "--frame-fps."
        )
    return frames


def _read_list(request: Request) -> Annotations:
    """A manifest: `--input` itself, or `--annotations` for paths below `--input`."""
    path, base = request.root, None
    if request.files:
        if len(request.files) > 1:
            raise InputError("give one CSV or .jsonl file as `--annotations`.")
        path, base = request.files[0], request.root
    if not path.is_file() or (base is not None and not base.is_dir()):
        raise InputError(
            "`--format csv` needs the file as `--input`, or a folder as `--input` and "
            "the file as `--annotations`."
        )
    return read_manifest(path, base=base, labels=request.labels, frames=request.frames)


def _read_published(name: str, request: Request) -> Annotations:
    if not request.root.is_dir():
        raise InputError(
            f"`--format {name}` needs the folder of the videos as `--input`."
        )
    return _PUBLISHED[name](request)


def _with_class_list(found: Annotations, labels: Path | None) -> Annotations:
    """Take the order of the classes from a list."""
    if labels is None:
        return found
    names = read_class_names(labels)
    unknown = sorted({entry.label for entry in found.entries} - set(names))
    if unknown:
        raise InputError(f"the class folder {unknown[0]!r} is not in {labels}.")
    found.official_classes = names
    found.class_order = f"as in {labels.name}"
    return found


def _check_text(found: Annotations) -> None:
    """JSON can spell characters that no file name or record can hold."""
    for entry in found.entries:
        text = f"{entry.id}{entry.label}{entry.group}{entry.path}"
        try:
            text.encode("utf-8")
            usable = "\0" not in text
        except UnicodeEncodeError:
            usable = False
        if not usable:
            raise InputError(
                f"the video {entry.id!a} of class {entry.label!a} has a name, path or "
                "class with characters that are no text; correct the annotations."
            )


def _check_classes(found: Annotations, source: Path) -> None:
    names = found.class_names
    if len(names) < 2:
        raise InputError(
            f"`--input` {source} has only one class, {names[0]!r}; a classifier needs "
            "at least two."
        )
