"""Class names in text files."""

import pytest

from tsi_keras.utils.errors import InputError
from tsi_keras.utils.label_files import format_labels
from tsi_keras.utils.label_files import parse_labels

# Characters at which str.splitlines ends a line, and others.
STRANGE = ["a\u2028b", "c\x85d", "e\x0bf", "naïve 日本", "", " space "]


@pytest.mark.parametrize("names", [STRANGE, ["one"], []])
def test_names_come_back(names):
    assert parse_labels(format_labels(names).encode("utf-8")) == names


def test_files_of_other_editors():
    assert parse_labels(b"a\r\nb\r\n") == parse_labels(b"a\nb") == ["a", "b"]


@pytest.mark.parametrize("name", ["two\nlines", "carriage\rreturn"])
def test_line_breaks_are_refused(name):
    with pytest.raises(InputError, match="line breaks.*Received"):
        format_labels(["a", name])
