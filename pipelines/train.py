"""Train a model on a prepared data set: python -m pipelines.train --help."""

import argparse
import json

from pipelines._command import Parser
from pipelines._command import exit_with
from pipelines._command import parse_with_overrides
from tsi_keras.training.config import describe_keys
from tsi_keras.training.config_io import load_config
from tsi_keras.utils.console import console
from tsi_keras.utils.console import errors
from tsi_keras.utils.console import print_table

_EXIT_STATUS = """\
exit status: 0 when the training ended, 1 when its loss was no longer finite, 2 for bad
usage or input, 128 + n when signal n ended it after a saved step (143 for SIGTERM, 130
for Ctrl-C), 75 when another worker of several or a server of the data service was lost;
--resume goes on from the last saved step."""


def main(argv: list[str] | None = None) -> int:
    """Parse, train, print the outcome; returns the exit status."""
    options, overrides = parse_with_overrides(_parser(), argv)
    config = load_config(options.config, overrides)
    # Only now: Keras and TensorFlow take seconds that `--help` need not wait for.
    from tsi_keras.training.callbacks import TrainingDiverged
    from tsi_keras.training.multi_worker import WorkerLost
    from tsi_keras.training.signals import TrainingInterrupted
    from tsi_keras.training.trainer import train

    try:
        summary = train(
            config,
            options.data,
            options.output,
            overwrite=options.overwrite,
            resume=options.resume,
        )
    except TrainingDiverged as error:
        errors.print(f"error: {error}", markup=False, style="red")
        return 1
    except WorkerLost as error:
        errors.print(f"error: {error}", markup=False, style="red")
        return 75
    except TrainingInterrupted as error:
        errors.print(str(error), markup=False)
        return 128 + error.signal
    _report(summary)
    return 0


def _parser() -> argparse.ArgumentParser:
    """The command line; configuration keys stay unparsed."""
    parser = Parser(
        prog="python -m pipelines.train",
        description="Train a video classifier; every key of the configuration can be "
        "overridden as --section.key=value.",
        epilog=f"{_key_help()}\n\n{_EXIT_STATUS}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--config", required=True, help="YAML recipe, see configs/")
    parser.add_argument(
        "--data", required=True, help="data set, the output of pipelines.prepare"
    )
    parser.add_argument(
        "--output", required=True, help="folder for everything the run writes"
    )
    parser.add_argument(
        "--overwrite", action="store_true", help="replace an earlier run in --output"
    )
    parser.add_argument(
        "--resume",
        action="store_true",
        help="go on with an interrupted run in --output from its last saved step; where "
        "it runs may change (train.distribution, workers, worker_index, "
        "checkpoint_minutes, wandb), the recipe and the data may not",
    )
    return parser


def _key_help() -> str:
    """All configuration keys with accepted values, default and meaning."""
    lines = ["configuration keys (--section.key=value, defaults in brackets):"]
    for name, kind, default, description in describe_keys():
        lines.append(f"  --{name}=<{kind}>  [{json.dumps(default)}]")
        lines.append(f"        {description}")
    return "\n".join(lines)


def _report(summary) -> None:
    """The final table."""
    rows = [("last epoch", summary.epochs, *_figures(summary.final))]
    if summary.best is not None:
        rows.append(("best epoch", summary.best_epoch, *_figures(summary.best)))
    print_table("Training", ["", "epoch", "loss", "top1", "val_loss", "val_top1"], rows)
    console.print(
        f"{summary.parameters:,} trainable parameters, {summary.seconds:.0f} s, "
        f"{summary.clips_per_second:.1f} clips/s on {summary.replicas} device(s)"
    )
    console.print(f"everything lies in {summary.output}", soft_wrap=True)


def _figures(metrics: dict[str, float]) -> list[float | str]:
    """The table's columns of one epoch."""
    return [metrics.get(key, "-") for key in ("loss", "top1", "val_loss", "val_top1")]


if __name__ == "__main__":
    exit_with(main)
