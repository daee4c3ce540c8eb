"""Addresses of remote storage, to be used like paths."""

from dataclasses import dataclass
from pathlib import Path

from tsi_keras.utils.urls import is_remote


@dataclass(frozen=True)
class RemotePath:
    """An address that can be used like the `Path` of a folder or file.

    Attributes:
        url: the address, without a slash at its end.
    """

    url: str

    def __str__(self) -> str:
        return self.url

    def __truediv__(self, name: str) -> "RemotePath":
        return RemotePath(f"{self.url.rstrip('/')}/{name}")

    @property
    def name(self) -> str:
        """The last part."""
        return self.url.rstrip("/").rpartition("/")[2]

    @property
    def suffix(self) -> str:
        """What follows the last dot of the name, with the dot."""
        return Path(self.name.partition("?")[0]).suffix

    @property
    def parent(self) -> "RemotePath":
        """The folder it lies in."""
        return RemotePath(self.url.rstrip("/").rpartition("/")[0])

    def absolute(self) -> "RemotePath":
        """Itself."""
        return self

    def is_relative_to(self, other: object) -> bool:
        """Whether it is `other` or lies below."""
        return f"{self.url}/".startswith(f"{str(other).rstrip('/')}/")

    def stat(self):
        """Size and time are not asked for: that would be one request a video.

        Raises:
            OSError: always.
        """
        raise OSError(f"{self.url}: size and time of remote files are not asked for")


def to_path(path: str | Path | RemotePath) -> Path | RemotePath:
    """Return a path of the right kind: `RemotePath` for an address, else absolute.

    Args:
        path: a local path or an address.
    """
    if isinstance(path, RemotePath):
        return path
    if is_remote(path):
        return RemotePath(str(path).rstrip("/"))
    return Path(path).expanduser().absolute()
