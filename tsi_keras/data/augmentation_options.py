"""What is done to training clips beside crop scales and flips; all off by default."""

from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import fields
from numbers import Real

from tsi_keras.utils.errors import InputError

CROPS = ("multi_scale", "random_resized")


@dataclass(frozen=True)
class Augmentation:
    """Augmentation of training clips, drawn once per clip.

    Attributes:
        crop: `"multi_scale"`: TSN's crops of a few sizes at 13 positions;
            `"random_resized"`: any region within `area` and `aspect`.
        area: smallest and largest share of the frame, for `"random_resized"`.
        aspect: smallest and largest width / height, for `"random_resized"`.
        brightness: factor from 1 - this to 1 + this; likewise the next two.
        contrast: of the distance to the mean grey of the clip.
        saturation: of the distance to the grey of the same brightness.
        hue: the colours turn by up to this share of the colour circle; at most 0.5.
        rand_augment: RandAugment operations per clip; 0: none.
        rand_augment_magnitude: their strength, up to 10.
        erasing: probability that a box of noise covers a part of the clip.
        mixup: alpha of MixUp's Beta distribution; 0: no MixUp.
        cutmix: the same of CutMix. With both, half of the mixed clips get each.
        mix_share: probability that a clip is mixed, with `mixup` or `cutmix`.

    Raises:
        InputError: a value is out of range, or belongs to what is not switched on.
    """

    crop: str = "multi_scale"
    area: tuple[float, float] = (0.08, 1.0)
    aspect: tuple[float, float] = (3 / 4, 4 / 3)
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0
    rand_augment: int = 0
    rand_augment_magnitude: float = 9.0
    erasing: float = 0.0
    mixup: float = 0.0
    cutmix: float = 0.0
    mix_share: float = 1.0

    def __post_init__(self) -> None:
        if self.crop not in CROPS:
            raise InputError(
                f"`crop` must be one of {list(CROPS)}. Received: {self.crop!r}"
            )
        for name, highest in (("area", 1.0), ("aspect", 100.0)):
            object.__setattr__(self, name, _range(name, getattr(self, name), highest))
        for name, highest in _HIGHEST.items():
            _check_number(name, getattr(self, name), highest)
        if self.rand_augment != int(self.rand_augment):
            raise InputError(
                f"`rand_augment` must be a whole number. Received: {self.rand_augment}"
            )
        object.__setattr__(self, "rand_augment", int(self.rand_augment))
        self._check_unused()

    @property
    def colors(self) -> bool:
        """Whether there is any colour jitter."""
        return any((self.brightness, self.contrast, self.saturation, self.hue))

    @property
    def mixes(self) -> bool:
        """Whether clips are mixed, so that labels are shares of the classes."""
        return bool(self.mixup or self.cutmix)

    @property
    def of_squares(self) -> list[str]:
        """Names of what is switched on and works on clips of the final size."""
        names = ("brightness", "contrast", "saturation", "hue", "rand_augment")
        names += ("erasing", "mixup", "cutmix")
        return [name for name in names if getattr(self, name)]

    def _check_unused(self) -> None:
        """Refuse options that would change nothing."""
        needs = {
            "area": (self.crop == "random_resized", 'crop="random_resized"'),
            "aspect": (self.crop == "random_resized", 'crop="random_resized"'),
            "rand_augment_magnitude": (self.rand_augment, "`rand_augment`"),
            "mix_share": (self.mixes, "`mixup` or `cutmix`"),
        }
        defaults = {field.name: field.default for field in fields(self)}
        for name, (used, needed) in needs.items():
            value = getattr(self, name)
            if not used and value != defaults[name]:
                raise InputError(f"`{name}` needs {needed}. Received: {value!r}")


# The largest value of every strength; the smallest is 0.
_HIGHEST = {
    "brightness": 1.0,
    "contrast": 1.0,
    "saturation": 1.0,
    "hue": 0.5,
    "rand_augment": 10,
    "rand_augment_magnitude": 10.0,
    "erasing": 1.0,
    "mixup": 100.0,
    "cutmix": 100.0,
    "mix_share": 1.0,
}


def _check_number(name: str, value: float, highest: float) -> None:
    """Refuse what is no number from 0 to `highest`."""
    number = isinstance(value, Real) and not isinstance(value, bool)
    if not number or not 0 <= value <= highest:
        raise InputError(
            f"`{name}` must be a number from 0 to {highest}. Received: {value!r}"
        )


def _range(name: str, value: Sequence[float], highest: float) -> tuple[float, float]:
    """A checked pair of numbers in ascending order."""
    pair = tuple(value)
    if len(pair) != 2 or not 0 < pair[0] <= pair[1] <= highest:
        raise InputError(
            f"`{name}` must be two ascending numbers above 0 and up to {highest}. "
            f"Received: {list(pair)}"
        )
    return pair
