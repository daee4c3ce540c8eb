"""Configurations: what is accepted, and one readable line for every mistake."""

import re

import pytest

from tsi_keras.data.clip_options import ClipOptions
from tsi_keras.training.building import clip_options
from tsi_keras.training.config import Config
from tsi_keras.training.config import describe_keys
from tsi_keras.training.config import differences
from tsi_keras.training.config_io import dump_config
from tsi_keras.training.config_io import load_config
from tsi_keras.utils.errors import InputError


@pytest.fixture
def write(tmp_path):
    """Write a file and return its path."""

    def write(text):
        path = tmp_path / "recipe.yaml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


def test_empty_file_is_the_papers_recipe(write):
    config = load_config(write(""))
    assert config == Config()
    assert (config.model.temporal, config.model.depth) == ("tsi", 50)
    train = config.train
    assert (train.learning_rate, train.milestones, train.epochs) == (
        0.01,
        [30, 40, 45],
        50,
    )
    assert (train.momentum, train.weight_decay, train.clip_norm) == (0.9, 5e-4, 20.0)


def test_values_are_yaml_1_2(write):
    config = load_config(
        write("train: {learning_rate: 1e-4, epochs: 60}\nmodel: {temporal: none}"),
        ["--train.weight_decay=1e-3", "data.flip=none", "--train.clip_norm=null"],
    )
    assert config.train.learning_rate == 1e-4
    assert config.train.weight_decay == 1e-3
    assert config.train.clip_norm is None
    assert config.model.temporal == "none"


def test_overrides_are_stronger_and_the_last_wins(write):
    path = write("train: {epochs: 60}")
    overrides = ["--train.epochs=70", "--train.epochs=80", "--model.blocks=[[0],[1]]"]
    config = load_config(path, [*overrides, "--model.stages=[2,5]"])
    assert config.train.epochs == 80
    assert config.model.blocks == [[0], [1]]


def test_dumped_text_reads_back(write):
    config = load_config(write("train: {epochs: 60}"), ["--model.blocks=first"])
    assert load_config(write(dump_config(config))) == config


def test_options_of_modules(write):
    path = write("model: {temporal_options: {sme: {alignment: linear}}}")
    config = load_config(path, ["--model.temporal_options.cti.alpha_bias=2.0"])
    assert config.model.temporal_options == {
        "sme": {"alignment": "linear"},
        "cti": {"alpha_bias": 2.0},
    }


FILE_ERRORS = {
    "train: {epochs: three}": r"`train.epochs` should be a valid integer. "
    r"Received: 'three'",
    "train: {epochs: 60.5}": r"`train.epochs` should be a valid integer. "
    r"Received: 60.5",
    "train: {epochs: true}": r"`train.epochs` should be .*integer.* Received: True",
    "train: {validation: no}": r"`train.validation` .*boolean. Received: 'no'",
    "train: {learning_rate: .nan}": r"`train.learning_rate` .* Received: nan",
    "train: {clip_norm: 0}": r"`train.clip_norm` .*greater than 0. Received: 0",
    "model: {depth: 20}": r"`model.depth` .*18, 26, 34, 50 or 101. Received: 20",
    "model: {blocks: frist}": r"`model.blocks` should be all\|first\|.*'frist'",
    "data: {scales: [1.0, a]}": r"`data.scales.1` .*valid number. Received: 'a'",
    "train: {epohcs: 3}": r"unknown key `train.epohcs`; did you mean `train.epochs`\?",
    "epochs: 3": r"unknown key `epochs`; did you mean `train.epochs`\?",
    "trian: {epochs: 3}": r"unknown key `trian`; did you mean `train`\?",
    "zzz: 1": r"unknown key `zzz`; `python -m pipelines.train --help` lists all",
    "3: 1": r"unknown key `3`",
    "train: 3": r"`train` should be a section of `key: value` lines. Received: 3",
    "[1, 2]": r"must hold the sections model, data, train. Received: \[1, 2\]",
    "train:\n  epochs: [3": r"is not YAML: line \d+: ",
    "train:\n  epochs: 3\n  epochs: 4": r"is not YAML: line 3: found duplicate key",
    b"\xff\xfe\x00": r"is not YAML: 'utf-8' codec can't decode",
    "data: {crop_size: 300}": r"`data.crop_size` must not exceed `data.short_side`. "
    r"Received: 300 and 256",
    "data: {scales: [1.5]}": r"`data.scales` must lie above 0 .* Received: \[1.5\]",
    "train: {milestones: [40, 30]}": r"`train.milestones` must ascend .*\[40, 30\]",
    "train: {epochs: 40}": r"`train.milestones` .*`train.epochs` \(40\); \[\] keeps",
    "train: {warmup_epochs: 50}": r"`train.warmup_epochs` must be below .* 50",
    "model: {stages: [5, 2]}": r"`model.stages` must ascend .* \[5, 2\]",
    "model: {blocks: [[0]]}": r"`model.blocks` must hold one list per .* \[\[0\]\]",
}


@pytest.mark.parametrize("text", FILE_ERRORS, ids=str)
def test_mistakes_in_the_file(write, text):
    path = write(text)
    with pytest.raises(InputError) as error:
        load_config(path)
    assert re.search(FILE_ERRORS[text], str(error.value)), str(error.value)
    assert str(error.value).startswith(str(path))
    assert "\n" not in str(error.value)


OVERRIDE_ERRORS = {
    "--train.epochs": r"--section.key=value.* Received: --train.epochs$",
    "--epochs=3": r"--section.key=value.* Received: --epochs=3$",
    "--train.epochs=x": r"^--train.epochs=x: `train.epochs` .* Received: 'x'$",
    "--train.epochs=[": r"value of --train.epochs=\[ is not YAML: line 1: ",
    "--train.epochs=": r"^--train.epochs=: `train.epochs` .* Received: None$",
    "--train.epoch=3": r"^--train.epoch=3: unknown key .* mean `train.epochs`\?$",
    "--train.seed.a=3": r"^--train.seed.a=3: `train.seed` .* Received: \{'a': 3\}$",
    "--train.milestones=[9,3]": r"recipe.yaml --train.milestones=\[9,3\]: .* \[9, 3\]",
    "--data.area=[0.5,1]": r"`data`: `area` needs crop=\"random_resized\". Received",
    "--data.hue=0.7": r"^--data.hue=0.7: `data.hue` .* 0.5. Received: 0.7$",
    "--data.rand_augment_magnitude=5": r"`data`: .* needs `rand_augment`. Received: 5.0$",
    "--data.mix_share=0.5": r"`mix_share` needs `mixup` or `cutmix`. Received: 0.5$",
    "--data.sampling=twice": r"`data.sampling` .*'segments' or 'dense'. Received: 'twice'$",
}


@pytest.mark.parametrize("override", OVERRIDE_ERRORS)
def test_mistakes_in_overrides(write, override):
    with pytest.raises(InputError) as error:
        load_config(write(""), [override])
    assert re.search(OVERRIDE_ERRORS[override], str(error.value)), str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["nowhere.yaml", "."])
def test_unreadable_file(tmp_path, name):
    with pytest.raises(InputError, match="cannot be read: .*directory"):
        load_config(tmp_path / name)


def test_differences_name_key_and_values():
    other = Config.model_validate({"train": {"seed": 3}, "data": {"flip": "all"}})
    assert differences(Config(), Config()) == []
    assert differences(Config(), other) == [
        "`data.flip` was 'none' and is now 'all'",
        "`train.seed` was 0 and is now 3",
    ]


def test_every_key_is_described():
    rows = describe_keys()
    assert len(rows) == sum(len(section) for section in Config().model_dump().values())
    assert all(len(description) > 8 for *_, description in rows)
    kinds = {name: kind for name, kind, *_ in rows}
    assert kinds["train.clip_norm"] == "float|null"
    assert kinds["data.flip"] == "none|swap|all"
    assert kinds["model.blocks"] == "all|first|alternate|[[int, ...], ...]"


def test_recipes_in_the_repository(repository):
    paths = sorted((repository / "configs").glob("*.yaml"))
    assert {"demo_tsi", "demo_tsn", "tsi_r50_8f_something"} <= {p.stem for p in paths}
    for path in paths:
        load_config(path)
        header = path.read_text().split("\n\n")[0]
        for word in ("Expected:", "Cost:", "Command:", f"configs/{path.name}"):
            assert word in header, f"{path} does not state {word}"


def test_demos_differ_in_the_temporal_module_only(repository):
    tsi = load_config(repository / "configs" / "demo_tsi.yaml")
    tsn = load_config(repository / "configs" / "demo_tsn.yaml")
    assert [text.split()[0] for text in differences(tsi, tsn)] == [
        "`model.temporal`",
        "`model.temporal_options`",
    ]


def test_a_preset_sets_the_network(write):
    config = load_config(write("model: {preset: table6_res5}"))
    assert (config.model.temporal, config.model.num_frames) == ("tsi", 16)
    assert (config.model.stages, config.model.blocks) == ([5], "first")
    assert load_config(write(dump_config(config))) == config


def test_a_preset_and_a_key_that_contradicts_it(write):
    path = write("model: {preset: table7_sum, num_frames: 8}")
    with pytest.raises(InputError, match=r"table7_sum means `model.num_frames` 16"):
        load_config(path)
    with pytest.raises(InputError, match="Did you mean.*tsi_resnet50"):
        load_config(write("model: {preset: tsi_resnet5}"))


def test_accumulation_must_divide_the_batch(write):
    with pytest.raises(InputError, match="multiple of `train.accumulation_steps`"):
        load_config(write("train: {batch_size: 6, accumulation_steps: 4}"))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["data.crop=random_resized", "data.scales=[1.0]"],
            r"`data.scales` changes nothing without `data.crop` multi_scale.*\[1.0\]",
        ),
        (
            ["data.sampling=dense", "data.short_videos=first"],
            "`data.short_videos` changes nothing without `data.sampling` segments",
        ),
        (
            ["data.sampling=dense", "model.num_frames=65"],
            "`model.num_frames` must not exceed the 64 frames.*Received: 65",
        ),
        (
            ["data.mixup=0.8", "train.batch_size=12", "train.accumulation_steps=4"],
            "must be even. Received: 3",
        ),
        (
            ["data.resize_on=device", "data.erasing=0.2"],
            r"`data`: `resize_on='device'` leaves only.*'erasing' needs resized clips",
        ),
        (
            ["data.crop=random_resized", "data.area=[0.9,0.1]"],
            r"`data`: `area` must be two ascending numbers.*\[0.9, 0.1\]",
        ),
    ],
)
def test_keys_that_do_not_fit_together(overrides, message):
    with pytest.raises(InputError, match=message):
        load_config(None, overrides)


def test_clips_of_a_configuration():
    overrides = ["data.sampling=dense", "data.crop=random_resized", "data.mixup=0.8"]
    options = clip_options(load_config(None, [*overrides, "data.area=[0.3,1.0]"]))
    assert options.sampling == "dense"
    assert options.augmentation.area == (0.3, 1.0)
    assert options.augmentation.mixes and options.augmentation.mixup == 0.8
    assert clip_options(load_config(None)) == ClipOptions()
