"""Options of clips and augmentation: what is refused, and that all is off by default."""

import re

import pytest

from tsi_keras.data.augmentation_options import Augmentation
from tsi_keras.data.clip_options import ClipOptions
from tsi_keras.utils.errors import InputError


def test_everything_is_off_by_default():
    options = ClipOptions()
    assert options.sampling == "segments" and options.augmentation == Augmentation()
    assert options.augmentation.crop == "multi_scale"
    assert not options.augmentation.mixes and not options.augmentation.colors
    assert options.augmentation.rand_augment == options.augmentation.erasing == 0


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"crop": "five"}, "`crop` must be one of.*Received: 'five'"),
        (
            {"crop": "random_resized", "area": (0.5, 0.2)},
            "`area` must be two ascending",
        ),
        (
            {"crop": "random_resized", "area": (0.0, 1.0)},
            "`area`.*Received: [0.0, 1.0]",
        ),
        ({"crop": "random_resized", "aspect": (1.0,)}, "`aspect` must be two"),
        ({"area": (0.2, 1.0)}, '`area` needs crop="random_resized"'),
        ({"aspect": (0.5, 2.0)}, '`aspect` needs crop="random_resized"'),
        ({"brightness": 1.5}, "`brightness`.*from 0 to 1.0. Received: 1.5"),
        ({"hue": -0.1}, "`hue`.*Received: -0.1"),
        ({"hue": 0.6}, "`hue`.*from 0 to 0.5"),
        ({"saturation": float("nan")}, "`saturation`.*Received: nan"),
        ({"contrast": True}, "`contrast`.*Received: True"),
        ({"rand_augment": 1.5}, "`rand_augment` must be a whole number"),
        ({"rand_augment_magnitude": 5.0}, "`rand_augment_magnitude` needs `rand_aug"),
        ({"erasing": 2}, "`erasing`.*from 0 to 1.0. Received: 2"),
        ({"mixup": "0.8"}, "`mixup` must be a number.*Received: '0.8'"),
        ({"mix_share": 0.5}, "`mix_share` needs `mixup` or `cutmix`"),
    ],
)
def test_wrong_augmentation_is_refused(values, message):
    with pytest.raises(InputError, match=message.replace("[", "\\[")):
        Augmentation(**values)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"sampling": "twice"}, "`sampling` must be one of.*Received: 'twice'"),
        ({"sampling": "dense", "num_frames": 65}, "`num_frames`.*span 64 frames"),
        ({"short_videos": "loop"}, "`short_videos` must be one of"),
        (
            {"sampling": "dense", "short_videos": "first"},
            "`short_videos` is for sampling 'segments'",
        ),
        (
            {"scales": (1.0, 0.5), "augmentation": Augmentation("random_resized")},
            "`scales` belong to multi-scale crops.*Received: [1.0, 0.5]",
        ),
    ],
)
def test_wrong_clips_are_refused(values, message):
    with pytest.raises(InputError, match=message.replace("[", "\\[")):
        ClipOptions(**values)


def test_ranges_may_come_as_lists():
    made = Augmentation("random_resized", area=[0.2, 1], aspect=[0.5, 2])
    assert made.area == (0.2, 1) and made.aspect == (0.5, 2)
    assert re.search("0.2", repr(made))
