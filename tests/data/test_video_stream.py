"""Sources of streams: files, http, cameras that are not there, lost connections."""

import itertools
import threading
from fractions import Fraction
from types import SimpleNamespace

import av
import numpy as np
import pytest

from tests.data.making_videos import make_video
from tests.export.making_streams import http_server
from tests.export.making_streams import ramp
from tests.export.making_streams import send_endless
from tests.export.making_streams import send_file
from tests.export.making_streams import transport_stream
from tests.export.making_streams import write_video
from tsi_keras.data import video_stream
from tsi_keras.data.frame_conversion import FrameConverter
from tsi_keras.data.live_clock import LiveClock
from tsi_keras.data.video_container import VideoError
from tsi_keras.data.video_stream import VideoStream
from tsi_keras.data.video_stream import parse_source
from tsi_keras.utils.errors import InputError


def times(stream):
    with stream:
        return [float(frame.seconds) for frame in stream]


@pytest.mark.parametrize(
    "source, kind, shown",
    [
        ("a/b.mp4", "file", "a/b.mp4"),
        (0, "camera", "camera 0"),
        ("/dev/video3", "camera", "/dev/video3"),
        ("RTSP://me:secret@camera:554/x", "network", "RTSP://me:***@camera:554/x"),
        ("http://host/v.mp4?t=1", "network", "http://host/v.mp4?t=1"),
        ("http://host:80/a/b?t=1", "network", "http://host:80/a/b?t=1"),
        ("rtsp://[fe80::1]:554/x", "network", "rtsp://[fe80::1]:554/x"),
    ],
)
def test_sources_are_told_apart(source, kind, shown):
    parsed = parse_source(source)
    assert (parsed.kind, parsed.shown) == (kind, shown)


@pytest.mark.parametrize(
    "address, shown",
    [
        ("rtsp://u:p@ss@h/x", "rtsp://u:***@h/x"),
        ("rtsp://u:p/w@h", "rtsp://u:***@h"),
        ("rtsp://u:1/p@s?w#x@h:554/x", "rtsp://u:***@h:554/x"),
        ("rtsp://me@mail.org:p@h/x", "rtsp://me@mail.org:***@h/x"),
        ("rtsp://:p@h/x", "rtsp://:***@h/x"),
        ("http://h/x?password=b", "http://h/x?password=***"),
        ("http://h/x?a=1&PWD=b&c=2", "http://h/x?a=1&PWD=***&c=2"),
        ("http://h/x?passwd=b/c?d=e#f&t=1", "http://h/x?passwd=***&t=1"),
        (
            "http://h/x?api_key=b&access_token=c",
            "http://h/x?api_key=***&access_token=***",
        ),
        ("http://u:p@h/x?client-secret=b", "http://u:***@h/x?client-secret=***"),
        (
            "rtsp://h/user=me&password=b&channel=1",
            "rtsp://h/user=me&password=***&channel=1",
        ),
        ("srt://h:9?passphrase=b", "srt://h:9?passphrase=***"),
    ],
)
def test_passwords_are_not_shown(address, shown):
    parsed = parse_source(address)
    assert (parsed.target, parsed.shown) == (address, shown)


def test_unknown_addresses_are_refused_without_their_password():
    with pytest.raises(InputError, match="ftp://x cannot be read as a stream.*rtsp"):
        parse_source("ftp://x")
    with pytest.raises(
        InputError, match=r"mms://u:\*\*\*@h/x cannot be read"
    ) as caught:
        parse_source("mms://u:secret@h/x")
    assert "secret" not in str(caught.value)


def test_a_file_gives_all_frames_with_their_times(tmp_path):
    stamps = [0, 1, 3, 4, 9, 10]
    path = write_video(tmp_path / "v.mp4", ramp(6, 0, 200), timestamps=stamps)
    stream = VideoStream(path)
    assert times(stream) == pytest.approx([t / 24 for t in stamps], abs=1e-4)
    assert stream.num_frames == 6 and stream.live is False


def test_frames_are_upright(tmp_path):
    path = make_video(tmp_path / "v.mp4", 3, size=(32, 48), rotation=90)
    with VideoStream(path) as stream:
        shapes = {FrameConverter(None)(frame).shape for frame, _ in stream}
    assert shapes == {(48, 32, 3)}


@pytest.mark.parametrize(
    "source, message",
    [
        ("nowhere.mp4", "nowhere.mp4: the file does not exist"),
        (97, "camera 97: there is no /dev/video97; cameras found: "),
        ("rtsp://u:secret@127.0.0.1:9/x", r"rtsp://u:\*\*\*@127.*Connection refused"),
        ("http://127.0.0.1:9/v.mp4", "127.0.0.1:9/v.mp4: it cannot be opened: Connect"),
    ],
)
def test_what_cannot_be_opened_is_named(source, message):
    with pytest.raises(InputError, match=message) as caught:
        times(VideoStream(source))
    assert "secret" not in str(caught.value)


def test_a_file_is_not_live(tmp_path):
    path = write_video(tmp_path / "v.mp4", ramp(3, 0, 200))
    with pytest.raises(InputError, match="is a file; it cannot be live"):
        times(VideoStream(path, live=True))


def test_damage_is_named_with_its_time(real_videos):
    stream = VideoStream(real_videos / "corrupted.mp4")
    with pytest.raises(VideoError, match=r"decoding failed.*last frame at 2\.70 s"):
        times(stream)
    assert stream.num_frames == 28


def test_a_file_that_ends_early_is_an_error(tmp_path):
    whole = write_video(tmp_path / "v.mkv", ramp(48, 0, 200))
    whole.write_bytes(whole.read_bytes()[:-900])
    with pytest.raises(VideoError, match=r"last frame at \d\.\d\d s"):
        times(VideoStream(whole))


def test_a_file_behind_http_is_a_file(tmp_path):
    path = write_video(tmp_path / "v.mp4", ramp(24, 0, 200))
    data = path.read_bytes()
    with http_server(lambda handler: send_file(handler, data)) as address:
        stream = VideoStream(address)
        assert times(stream) == times(VideoStream(path))
        assert stream.live is False
        assert stream.reconnects == 0


def test_http_errors_are_named():
    with http_server(lambda handler: handler.send_error(404)) as address:
        with pytest.raises(InputError, match="404"):
            times(VideoStream(address))


def test_an_http_stream_without_length_is_live_and_may_end():
    data = transport_stream(ramp(24, 0, 200))
    with http_server(lambda handler: send_endless(handler, data)) as address:
        lines = []
        stream = VideoStream(address, notify=lines.append)
        assert times(stream) == pytest.approx(np.arange(24) / 24, abs=1e-3)
        assert stream.live is True
    assert len(lines) == 1 and lines[0].endswith("at 0.96 s; taken for its end")


def test_a_lost_connection_is_opened_again(monkeypatch):
    monkeypatch.setattr(video_stream, "PAUSES", (0, 0))
    data = transport_stream(ramp(24, 0, 200))
    requests = itertools.count(1)

    def answer(handler):
        if next(requests) == 2:
            handler.send_error(503)
        else:
            send_endless(handler, data)

    lines = []
    with http_server(answer) as address:
        with VideoStream(address, live=True, notify=lines.append) as stream:
            found = [float(seconds) for _, seconds in itertools.islice(stream, 60)]
    assert stream.reconnects == 2
    assert all(np.diff(found) > 0)
    assert lines[0].endswith("at 0.96 s; opening it again in 0 s (attempt 1 of 2)")
    assert "Server Error" in lines[1] and "(attempt 2 of 2)" in lines[1]
    assert lines[2].endswith("open again")


def test_a_connection_that_does_not_come_back_is_an_error(monkeypatch):
    monkeypatch.setattr(video_stream, "PAUSES", (0, 0, 0))
    data = transport_stream(ramp(24, 0, 200))
    first = threading.Lock()

    def answer(handler):
        if first.acquire(blocking=False):
            send_endless(handler, data)
        else:
            handler.send_error(503)

    with http_server(answer) as address:
        stream = VideoStream(address, live=True, notify=lambda line: None)
        with pytest.raises(
            VideoError, match=r"Server Error.*3 more times.*frame at 0\.96 s"
        ):
            times(stream)
    assert stream.num_frames == 24


def test_what_opens_without_frames_does_not_count_as_back(monkeypatch):
    monkeypatch.setattr(video_stream, "PAUSES", (0, 0, 0))
    # One list of frames for each connection; then an error, not another attempt.
    connections = [[frame(0)], [], [frame(0), frame(40)], [], [], []]
    lines = []
    stream = VideoStream("rtsp://nowhere/x", notify=lines.append)
    stream._container = SimpleNamespace(
        format=SimpleNamespace(name="rtsp"), close=lambda: None
    )
    stream._endless = True
    monkeypatch.setattr(stream, "_open", lambda: None)
    monkeypatch.setattr(stream, "_frames", lambda: iter(connections.pop(0)))
    with pytest.raises(VideoError, match="the stream ended, and so 3 more times"):
        list(stream)
    assert connections == [] and stream.num_frames == 3
    attempts = [line.partition("attempt ")[2] for line in lines if "attempt" in line]
    assert attempts == [f"{n} of 3)" for n in (1, 2, 1, 2, 3)]


def test_damaged_parts_of_a_live_stream_are_left_out_and_counted():
    def packet(frames, error=None, is_corrupt=False):
        def decode():
            if error is not None:
                raise error
            return [SimpleNamespace(number=n, is_corrupt=bad) for n, bad in frames]

        return SimpleNamespace(decode=decode, is_corrupt=is_corrupt)

    packets = [
        packet([(0, False)]),
        packet([], error=av.error.InvalidDataError(1, "bad")),
        packet([(1, True), (2, False)]),
        packet([(3, True)], is_corrupt=True),
        packet([(4, False)]),
    ]
    stream = VideoStream("rtsp://nowhere/x")
    stream._container = SimpleNamespace(demux=lambda _: packets)
    assert [frame.number for frame in stream._frames()] == [0, 2, 4]
    assert stream.damaged == 3


def test_a_live_stream_with_lost_parts_goes_on():
    data = bytearray(transport_stream(ramp(48, 0, 200)))
    data[len(data) // 3 : len(data) // 2] = b""
    with http_server(lambda handler: send_endless(handler, bytes(data))) as address:
        found = times(VideoStream(address, notify=lambda line: None))
    assert 10 < len(found) < 48
    assert all(np.diff(found) > 0) and found[-1] == pytest.approx(47 / 24, abs=0.1)


class Wall:
    """A clock that is set by hand."""

    def __init__(self):
        self.time = 100.0

    def __call__(self):
        return self.time


def frame(pts, base=Fraction(1, 1000)):
    return SimpleNamespace(pts=pts, time_base=base)


@pytest.mark.parametrize(
    "stamps, walls, wanted",
    [
        ([500, 540, 580], [0, 0, 0], [0, 0.04, 0.08]),  # a burst is taken as it is
        ([0, 40, 12_040], [0, 0.04, 12], [0, 0.04, 12.04]),  # a pause
        ([0, 40, 900_040, 900_080], [0, 0.04, 0.1, 0.1], [0, 0.04, 0.1, 0.14]),
        ([900, 940, 10, 50], [0, 0.04, 0.1, 0.1], [0, 0.04, 0.1, 0.14]),
        ([None, None, None], [0, 0.5, 0.5], [0, 0.5, 0.501]),
    ],
    ids=["burst", "pause", "leap", "back", "none"],
)
def test_the_clock_of_live_sources(stamps, walls, wanted):
    wall = Wall()
    clock = LiveClock(now=wall)
    found = []
    for stamp, at in zip(stamps, walls, strict=True):
        wall.time = 100 + at
        found.append(float(clock.tick(frame(stamp))))
    assert found == pytest.approx(wanted, abs=1e-5)


def test_the_clock_goes_on_over_a_lost_connection():
    wall = Wall()
    clock = LiveClock(now=wall)
    clock.tick(frame(5000))
    wall.time += 7
    clock.restart()
    assert float(clock.tick(frame(0))) == pytest.approx(7)
    assert float(clock.tick(frame(40))) == pytest.approx(7.04)
