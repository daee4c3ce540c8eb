"""Learning rates by step: step decay or half cosine, with optional linear warm-up."""

import keras
from keras.optimizers.schedules import LearningRateSchedule

from tsi_keras.training.config import TrainSection

WARMUP_START = 0.1


@keras.saving.register_keras_serializable("tsi_keras")
class StepDecay(LearningRateSchedule):
    """Multiply the rate by `gamma` whenever the step reaches a milestone.

    The milestone's own step already has the lower rate, as in PyTorch's
    `MultiStepLR` (`keras.optimizers.schedules.PiecewiseConstantDecay` lowers it one
    step later and refuses an empty list of boundaries).

    Args:
        initial_learning_rate: float. Rate before the first milestone.
        milestones: ascending list of steps.
        gamma: float. Factor at every milestone. Defaults to `0.1`.
    """

    def __init__(
        self, initial_learning_rate: float, milestones: list[int], gamma: float = 0.1
    ):
        super().__init__()
        self.initial_learning_rate = initial_learning_rate
        self.milestones = list(milestones)
        self.gamma = gamma

    def __call__(self, step):
        step = keras.ops.convert_to_tensor(step)
        passed = keras.ops.zeros((), "float32")
        for milestone in self.milestones:
            passed = passed + keras.ops.cast(step >= milestone, "float32")
        return self.initial_learning_rate * keras.ops.power(self.gamma, passed)

    def get_config(self):
        return {
            "initial_learning_rate": self.initial_learning_rate,
            "milestones": self.milestones,
            "gamma": self.gamma,
        }


@keras.saving.register_keras_serializable("tsi_keras")
class LinearWarmup(LearningRateSchedule):
    """Scale another schedule from a tenth to the whole over the first steps.

    Args:
        schedule: the `LearningRateSchedule` to scale.
        warmup_steps: int. Steps until the whole rate is reached.
        start: float. Factor at step 0. Defaults to `0.1` (TIN, MMAction2).
    """

    def __init__(
        self,
        schedule: LearningRateSchedule,
        warmup_steps: int,
        start: float = WARMUP_START,
    ):
        super().__init__()
        self.schedule = schedule
        self.warmup_steps = warmup_steps
        self.start = start

    def __call__(self, step):
        progress = keras.ops.cast(step, "float32") / self.warmup_steps
        factor = self.start + (1.0 - self.start) * keras.ops.minimum(progress, 1.0)
        return factor * self.schedule(step)

    def get_config(self):
        return {
            "schedule": keras.optimizers.schedules.serialize(self.schedule),
            "warmup_steps": self.warmup_steps,
            "start": self.start,
        }

    @classmethod
    def from_config(cls, config):
        schedule = keras.optimizers.schedules.deserialize(config["schedule"])
        return cls(**{**config, "schedule": schedule})


@keras.saving.register_keras_serializable("tsi_keras")
class OfConsumedBatches(LearningRateSchedule):
    """Another schedule, at the number of batches consumed instead of updates made.

    Under mixed_float16 a batch whose gradients overflow brings no update, and milestones
    would come later by as many steps. `skipped` counts such batches; it is a function of
    the optimizer's iterations and the epoch (see `CountSkippedBatches`), so it is saved
    nowhere.

    Args:
        schedule: the `LearningRateSchedule` to look up.
    """

    def __init__(self, schedule: LearningRateSchedule):
        super().__init__()
        self.schedule = schedule
        self.skipped = keras.Variable(0, trainable=False, dtype="int64")

    def __call__(self, step):
        return self.schedule(step + keras.ops.cast(self.skipped, step.dtype))

    def get_config(self):
        return {"schedule": keras.optimizers.schedules.serialize(self.schedule)}

    @classmethod
    def from_config(cls, config):
        return cls(keras.optimizers.schedules.deserialize(config["schedule"]))


def scaled_learning_rate(train: TrainSection) -> float:
    """Return the initial rate, scaled by the batch where a reference batch is given.

    Source: linear scaling is the advice of the authors of TSM and TEA.
    """
    if train.reference_batch_size is None:
        return train.learning_rate
    return train.learning_rate * train.batch_size / train.reference_batch_size


def make_schedule(train: TrainSection, steps_per_epoch: int) -> LearningRateSchedule:
    """Build the schedule of a recipe.

    Args:
        train: the recipe; its epochs become steps here.
        steps_per_epoch: int. Optimizer steps in an epoch.

    Returns:
        Schedule in steps. Epochs count from 0, so milestone 30 lowers the rate of
        the 31st epoch, from its first step on. Under mixed_float16 an
        `OfConsumedBatches`; make it in the scope of the strategy.

    Example:
        ```python
        schedule = make_schedule(config.train, steps_per_epoch=100)
        schedule(3000)   # 0.001 with the paper's recipe
        ```
    """
    rate = scaled_learning_rate(train)
    if train.schedule == "cosine":
        schedule = keras.optimizers.schedules.CosineDecay(
            rate, decay_steps=train.epochs * steps_per_epoch
        )
    else:
        steps = [epoch * steps_per_epoch for epoch in train.milestones]
        schedule = StepDecay(rate, steps, train.gamma)
    warmup_steps = round(train.warmup_epochs * steps_per_epoch)
    if warmup_steps:
        schedule = LinearWarmup(schedule, warmup_steps)
    if train.mixed_precision == "mixed_float16":
        return OfConsumedBatches(schedule)
    return schedule
