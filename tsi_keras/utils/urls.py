"""Which paths are addresses of remote storage."""

import os

SCHEMES = ("s3", "gs", "hdfs", "http", "https")


def is_remote(path: object) -> bool:
    """Whether `path` is an address such as `s3://bucket/data`, not a local path.

    Args:
        path: a string, a `Path` or anything whose text is a path.

    Returns:
        True where it begins with one of `SCHEMES` and `://`.

    Example:
        ```python
        is_remote("s3://bucket/data"), is_remote("data/mine")  # True, False
        ```
    """
    text = os.fspath(path) if isinstance(path, os.PathLike) else str(path)
    scheme, separator, _ = text.partition("://")
    return bool(separator) and scheme.lower() in SCHEMES
