"""The typed configuration of a training run: every key, its default and its meaning.

The defaults are the paper's recipe for 8 frames, completed by TEA's settings where
the paper is silent (dropout, clipping, no flip).
"""

from typing import Any
from typing import Literal

from pydantic import Field
from pydantic import model_validator

from tsi_keras.training.data_section import DataSection
from tsi_keras.training.data_section import Section


class ModelSection(Section):
    """The network."""

    preset: str | None = Field(
        None,
        description="a network of the papers by name (`pipelines.doctor models` lists "
        "them); sets the keys that make it up",
    )
    weights: str | None = Field(
        None,
        description="file of weights to start from (.pth, .safetensors, .keras, "
        ".weights.h5); the head and what the file lacks start fresh",
    )
    temporal: str = Field(
        "tsi", description="temporal module of the blocks; `none` is TSN"
    )
    depth: Literal[14, 18, 26, 34, 50, 101] = Field(50, description="ResNet depth")
    base_width: int = Field(64, ge=1, description="channels of the first stage")
    stem: Literal["imagenet", "small"] = Field(
        "imagenet", description="small: without max-pooling, for frames below 100 px"
    )
    num_frames: int = Field(8, ge=1, description="frames sampled from a video (T)")
    stages: list[Literal[2, 3, 4, 5]] = Field(
        [2, 3, 4, 5], description="residual stages that get the module"
    )
    blocks: Literal["all", "first", "alternate"] | list[list[int]] = Field(
        "all", description="blocks of a stage that get it, or one index list per stage"
    )
    fusion: Literal["cascade", "sum", "concat"] = Field(
        "cascade", description="how SME and CTI are joined (the paper's Table 7)"
    )
    temporal_options: dict[str, dict[str, Any]] = Field(
        {}, description="options by short name: {sme: {alignment: linear}}"
    )
    dropout: float = Field(
        0.5, ge=0, lt=1, description="share of the frame features dropped in the head"
    )
    head_stddev: float = Field(
        0.001,
        ge=0,
        description="spread of the head's first weights; 0.001 suits pretrained "
        "networks, about 0.1 lets a network start from nothing",
    )

    @model_validator(mode="before")
    @classmethod
    def _expand_preset(cls, values: Any) -> Any:
        if not isinstance(values, dict) or not isinstance(values.get("preset"), str):
            return values
        options = _preset_options(values["preset"])
        for key, wanted in options.items():
            if values.get(key, wanted) != wanted:
                raise ValueError(
                    f"`model.preset` {values['preset']} means `model.{key}` {wanted!r}. "
                    f"Received: {values[key]!r}; leave one of the two out"
                )
        return {**values, **options}

    @model_validator(mode="after")
    def _check_stages(self) -> "ModelSection":
        if self.stages != sorted(set(self.stages)):
            raise ValueError(
                f"`model.stages` must ascend without repetition. "
                f"Received: {self.stages}"
            )
        if isinstance(self.blocks, list) and len(self.blocks) != len(self.stages):
            raise ValueError(
                "`model.blocks` must hold one list per entry of `model.stages` "
                f"({len(self.stages)}). Received {len(self.blocks)}: {self.blocks}"
            )
        return self


def _preset_options(name: str) -> dict[str, Any]:
    """What a preset sets, as a configuration file would write it."""
    # Imported late: the catalogue's package imports Keras, which --help can do without.
    from tsi_keras.models.catalog import get_preset

    options = get_preset(name).options
    return {
        key: list(value) if isinstance(value, tuple) else value
        for key, value in options.items()
    }


class TrainSection(Section):
    """The recipe: schedule, optimiser, precision and devices."""

    epochs: int = Field(50, ge=1, description="passes over the training split")
    batch_size: int = Field(
        64, ge=1, description="clips in a step, over all devices together"
    )
    accumulation_steps: int = Field(
        1,
        ge=1,
        description="parts a batch is computed in, one after the other, to fit memory; "
        "the gradients are averaged, so the step is that of the whole batch",
    )
    optimizer: Literal["sgd", "adamw"] = Field(
        "sgd", description="the paper's SGD with TSN's groups, or AdamW without groups"
    )
    learning_rate: float = Field(0.01, gt=0, description="initial learning rate")
    reference_batch_size: int | None = Field(
        None,
        ge=1,
        description="scale learning_rate by batch_size / this; null: do not scale",
    )
    schedule: Literal["step", "cosine"] = Field(
        "step", description="decay at the milestones, or a half cosine down to zero"
    )
    milestones: list[int] = Field(
        [30, 40, 45], description="epochs after which the rate falls (schedule: step)"
    )
    gamma: float = Field(0.1, gt=0, le=1, description="factor at every milestone")
    warmup_epochs: float = Field(
        0.0, ge=0, description="epochs of linear warm-up from a tenth of the rate"
    )
    momentum: float = Field(0.9, ge=0, lt=1, description="momentum of SGD")
    weight_decay: float = Field(
        5e-4,
        ge=0,
        description="decay, coupled (sgd) or decoupled (adamw); not of biases and BN",
    )
    clip_norm: float | None = Field(
        20.0,
        gt=0,
        description="largest global gradient norm of a step; null: no clipping",
    )
    label_smoothing: float = Field(
        0.0, ge=0, lt=1, description="share of the target spread over all classes"
    )
    batch_norm: Literal["train", "partial", "frozen"] = Field(
        "train",
        description="partial: freeze the backbone's BN except the first, as TSN; "
        "frozen: freeze all of the backbone's",
    )
    ema_decay: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="evaluate and save an exponential moving average of the weights "
        "with this decay, such as 0.9999; null: the weights themselves",
    )
    mixed_precision: Literal["float32", "mixed_float16", "mixed_bfloat16"] = Field(
        "float32", description="precision of the computation; variables stay float32"
    )
    distribution: Literal["auto", "one_device", "mirrored", "multi_worker", "tpu"] = (
        Field(
            "auto",
            description="auto: all GPUs when there are several, else one device; "
            "multi_worker: several processes, told by TF_CONFIG, SLURM or train.workers; "
            "training is the same on any number of devices, but for model.dropout, "
            "of which every device draws the same masks for its share of a batch",
        )
    )
    workers: list[str] | None = Field(
        None,
        min_length=1,
        description="multi_worker: host:port of every process, the chief's first",
    )
    worker_index: int | None = Field(
        None, ge=0, description="multi_worker: position of this process in workers"
    )
    validation: bool = Field(
        True, description="evaluate the val split after every epoch and keep the best"
    )
    checkpoint_minutes: float | None = Field(
        10.0,
        ge=0,
        description="save the state to resume from at least this often within an "
        "epoch; null: after every epoch only",
    )
    wandb: str | None = Field(
        None,
        min_length=1,
        description="project of Weights & Biases to log the epochs to (needs the package "
        "wandb); null: do not",
    )
    seed: int = Field(0, ge=0, lt=2**31, description="seed of everything drawn")
    deterministic: bool = Field(
        False, description="bit-identical repetition on one machine, at some speed"
    )

    @model_validator(mode="after")
    def _check_schedule(self) -> "TrainSection":
        if self.schedule == "step":
            self._check_milestones()
        if self.batch_size % self.accumulation_steps:
            raise ValueError(
                "`train.batch_size` must be a multiple of `train.accumulation_steps`. "
                f"Received: {self.batch_size} and {self.accumulation_steps}"
            )
        if self.warmup_epochs >= self.epochs:
            raise ValueError(
                f"`train.warmup_epochs` must be below `train.epochs` ({self.epochs}). "
                f"Received: {self.warmup_epochs}"
            )
        return self

    def _check_milestones(self) -> None:
        ascending = self.milestones == sorted(set(self.milestones))
        inside = all(0 < epoch < self.epochs for epoch in self.milestones)
        if not (ascending and inside):
            raise ValueError(
                "`train.milestones` must ascend and lie between 0 and `train.epochs` "
                f"({self.epochs}); [] keeps the rate. Received: {self.milestones}"
            )


class Config(Section):
    """A complete training configuration.

    Example:
        ```python
        config = Config.model_validate({"train": {"epochs": 3, "milestones": []}})
        print(config.train.batch_size)   # 64
        ```
    """

    model: ModelSection = Field(ModelSection(), description="the network")
    data: DataSection = Field(DataSection(), description="clips and augmentation")
    train: TrainSection = Field(TrainSection(), description="the recipe")

    @model_validator(mode="after")
    def _check_clips(self) -> "Config":
        if self.data.sampling == "dense" and self.model.num_frames > 64:
            raise ValueError(
                "`model.num_frames` must not exceed the 64 frames of a clip with "
                f"`data.sampling` dense. Received: {self.model.num_frames}"
            )
        part = self.train.batch_size // self.train.accumulation_steps
        if (self.data.mixup or self.data.cutmix) and part % 2:
            raise ValueError(
                "`data.mixup` and `data.cutmix` mix pairs of clips: `train.batch_size` / "
                f"`train.accumulation_steps` must be even. Received: {part}"
            )
        return self


def differences(before: Config, now: Config) -> list[str]:
    """Name the keys in which two configurations differ, with both values."""
    old, new = _flat(before.model_dump()), _flat(now.model_dump())
    return [
        f"`{key}` was {old[key]!r} and is now {new[key]!r}"
        for key in old
        if old[key] != new[key]
    ]


def describe_keys() -> list[tuple[str, str, Any, str]]:
    """List every key as (name, accepted values, default, description)."""
    rows = []
    for section, field in Config.model_fields.items():
        for key, entry in type(field.default).model_fields.items():
            kind = _type_text(entry.annotation)
            rows.append((f"{section}.{key}", kind, entry.default, entry.description))
    return rows


def _flat(values: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """{"train": {"epochs": 3}} -> {"train.epochs": 3}."""
    return {
        f"{section}.{key}": value
        for section, entries in values.items()
        for key, value in entries.items()
    }


def _type_text(annotation: Any) -> str:
    """A type as a reader of `--help` wants it."""
    arguments = getattr(annotation, "__args__", ())
    origin = getattr(annotation, "__origin__", None)
    if annotation is type(None):
        return "null"
    if origin is Literal:
        return "|".join(str(value) for value in arguments)
    if origin is list:
        return f"[{_type_text(arguments[0])}, ...]"
    if origin is dict:
        return "{name: ...}"
    if arguments:
        return "|".join(_type_text(argument) for argument in arguments)
    return annotation.__name__
