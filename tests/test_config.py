import json
from pathlib import Path

import pytest

from backend.config import CHOICES, PRESETS, ProjectConfig, Settings
from backend.errors import ConfigError
from backend.labeling.project import check_config
from backend.labeling.reader import read_labeling
from model.querying.plan import QuerySettings

MASKS = (
    '<View><Image name="i" value="$image"/><BrushLabels name="m" toName="i"><Label value="road"/></BrushLabels></View>'
)


@pytest.mark.parametrize("given", [None, "", {}, "{}", "  "])
def test_extra_params_may_be_left_empty(given: object) -> None:
    assert ProjectConfig.from_extra_params(given) == ProjectConfig()


def test_extra_params_may_be_json_text() -> None:
    assert ProjectConfig.from_extra_params(json.dumps({"rounds": 4})).rounds == 4


def test_a_preset_is_overridden_by_single_keys() -> None:
    config = ProjectConfig.from_extra_params({"preset": "paper", "sampler": "entropy"})
    assert (config.network, config.init, config.batch_order, config.first_query, config.recipe, config.sampler) == (
        "resnet18", "previous", "high_first", "even", "paper", "entropy",
    )  # fmt: skip


def test_the_preset_paper_is_pt4al_as_published() -> None:
    paper = ProjectConfig.from_extra_params({"preset": "paper"})
    assert (paper.pretext, paper.network, paper.recipe) == ("rotation", "resnet18", "paper")
    assert (paper.batch_order, paper.first_query, paper.sampler) == ("high_first", "even", "least_confidence")
    assert (paper.init, paper.joint, paper.rounds) == ("previous", "none", 10)
    assert paper.labels_of_round(50_000) == 1000


def test_the_preset_released_code_differs_from_the_paper_in_its_order_and_its_confidence() -> None:
    paper, code = (ProjectConfig.from_extra_params({"preset": name}) for name in ("paper", "released_code"))
    assert (code.batch_order, code.sampler) == ("released_code", "released_confidence")
    changed = {"preset": "released_code", "batch_order": "released_code", "sampler": "released_confidence"}
    assert code == paper.model_copy(update=changed)


@pytest.mark.parametrize("name", PRESETS)
def test_what_a_preset_leaves_other_than_its_source_is_documented(name: str) -> None:
    page = (Path(__file__).parents[1] / "docs" / "configuration.md").read_text()
    _, _, section = page.partition("### Presets")
    said = " ".join(section.partition("\n#")[0].split())
    assert f"`{name}`" in said
    assert [sentence for sentence in PRESETS[name].differs if f"{sentence}." not in said] == []


def test_epochs_are_those_of_a_network() -> None:
    config = ProjectConfig.from_extra_params({"epochs": 30, "pretext_epochs": 12})
    assert (config.own_network, config.epochs, config.pretext_epochs) == (True, 30, 12)
    assert not ProjectConfig.from_extra_params({"pretext": "jigsaw", "pretext_epochs": 12}).own_network


def test_a_former_name_is_read_as_the_present_one() -> None:
    assert ProjectConfig.from_extra_params({"first_query": "scan"}).first_query == "scan_linear"


def test_the_preset_measured_is_the_defaults() -> None:
    assert ProjectConfig.from_extra_params({"preset": "measured"}) == ProjectConfig()


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"init": "pretrained", "network": "compact"}, ["pretrained", "resnet18", "compact"]),
        ({"control": " "}, ["control", "empty"]),
        ({"control": 3}, ["control", "string", "3"]),
        ({"joint": "simclr"}, ["joint", "simclr", "barlow_twins"]),
        ({"sampler": "oracle"}, ["sampler", "oracle", "least_confidence", "random"]),
        ({"smapler": "random"}, ["smapler", "sampler", "rounds"]),
        ({"preset": "best"}, ["preset", "paper", "measured"]),
        ({"rounds": 0}, ["rounds", "0"]),
        ({"rounds": "ten"}, ["rounds", "ten"]),
        ({"holdout_fraction": 1.5}, ["holdout_fraction", "1.5"]),
        ({"image_size": 33}, ["image_size", "33"]),
        ({"epochs": 0}, ["epochs", "0"]),
        ({"pretext_epochs": 9}, ["pretext_epochs", "rotation", "encoder"]),
        ({"pretext_seconds": 60}, ["pretext_seconds", "rotation", "encoder"]),
        ({"pretext_seconds": 0}, ["pretext_seconds", "0"]),
        ({"pretext": "jigsaw", "pretext_seconds": 60, "pretext_epochs": 9}, ["pretext_seconds", "pretext_epochs"]),
        ({"image_size": 8, "pretext": "jigsaw"}, ["image_size", "8", "jigsaw", "12"]),
        ({"preannotate": "yes"}, ["preannotate", "yes"]),
        ("{rounds: 4}", ["JSON"]),
        ([1], ["object"]),
    ],
)
def test_a_wrong_extra_param_is_refused_with_field_and_choices(given: object, words: list[str]) -> None:
    with pytest.raises(ConfigError) as error:
        ProjectConfig.from_extra_params(given)
    assert all(word in str(error.value) for word in words), str(error.value)


@pytest.mark.parametrize(("pool", "expected"), [(1797, 36), (100, 10), (5000, 100), (50_000, 1000), (1_000_000, 1000)])
def test_labels_of_a_round_of_an_own_network_are_a_fifth_of_a_batch_within_limits(pool: int, expected: int) -> None:
    assert ProjectConfig(learner="own").labels_of_round(pool) == expected


@pytest.mark.parametrize(("recent", "expected"), [(0, 12), (4, 12), (5, 15), (60, 180), (1000, 200)])
def test_labels_of_a_round_of_a_linear_head_are_few_or_what_is_answered_in_half_a_minute(
    recent: int, expected: int
) -> None:
    assert {ProjectConfig().labels_of_round(pool, recent) for pool in (100, 1_000_000)} == {expected}


def test_labels_of_a_round_are_as_configured() -> None:
    assert ProjectConfig(labels_per_round=7).labels_of_round(50_000, recent=60) == 7


def test_holdout_of_a_round_is_a_tenth_on_top() -> None:
    assert [ProjectConfig().holdout_of_round(k) for k in (10, 36, 1000)] == [1, 4, 100]
    assert ProjectConfig(holdout_fraction=0).holdout_of_round(36) == 0


@pytest.mark.parametrize(
    ("problem", "asked", "held"), [("single_label", 12, 1), ("detection", 8, 2), ("segmentation", 8, 2)]
)
def test_a_round_suits_what_is_labeled_where_nothing_is_given(problem, asked, held):
    config = ProjectConfig.from_extra_params({"labels_per_round": None}).suited(problem)
    assert config.labels_of_round(300) == asked
    assert config.holdout_of_round(asked) == held
    assert config.pretext == ("colorization" if problem == "segmentation" else "rotation")
    given = ProjectConfig.from_extra_params({"labels_per_round": 5, "holdout_fraction": 0.1}).suited(problem)
    assert (given.labels_per_round, given.holdout_fraction) == (5, 0.1)


def test_the_paper_has_settings_of_its_own_for_masks() -> None:
    config = ProjectConfig.from_extra_params({"preset": "paper", "labels_per_round": 20}).suited("segmentation")
    check_config(config, read_labeling(MASKS))
    assert not config.own_network
    assert (config.preset, config.pretext, config.batch_order) == ("paper", "colorization", "high_first")
    assert (config.first_query, config.sampler, config.labels_per_round) == ("even", "least_confidence", 20)
    assert ProjectConfig.from_extra_params({"preset": "paper"}).suited("segmentation").labels_per_round == 100
    assert ProjectConfig.from_extra_params({"preset": "paper"}).suited("single_label").own_network


def test_every_strategy_of_the_method_is_offered() -> None:
    assert set(CHOICES["sampler"]) == {
        "random", "least_confidence", "margin", "entropy", "doubtful_part", "region_herding",
        "bald", "variation_ratio", "core_set",
        "badge", "uncertainty_herding", "class_balanced", "weibull", "learning_loss", "learning_loss_detached", "vaal",
        "batch_bald", "core_gcn", "dal_osr", "ta_vaal", "waal", "pal", "highest_loss",
        "lowest_loss", "mc_entropy", "ens_least_confidence", "ens_margin", "ens_entropy", "released_confidence",
    }  # fmt: skip
    assert set(CHOICES["first_query"]) == {
        "auto", "even", "top", "random", "binned", "binned_2", "binned_10", "kmeans", "kmeans_proportional",
        "max_herding", "scan_linear", "typical",
    }  # fmt: skip
    assert set(CHOICES["learner"]) == {"auto", "linear", "finetune", "own", "decoder", "detector"}
    assert set(CHOICES["joint"]) == {"none", "barlow_twins", "dalbt"}


def test_every_choice_and_every_key_is_documented() -> None:
    page = (Path(__file__).parents[1] / "docs" / "configuration.md").read_text()
    words = {*ProjectConfig.model_fields, *(name for choices in CHOICES.values() for name in choices)}
    assert [word for word in words if f"`{word}`" not in page] == []


def test_a_default_is_among_its_choices() -> None:
    assert all(getattr(ProjectConfig(), field) in choices for field, choices in CHOICES.items())


@pytest.mark.parametrize(
    ("given", "own"),
    [
        ({}, False),
        ({"encoder": "timm:resnet18"}, False),
        ({"learner": "linear"}, False),
        ({"learner": "finetune"}, False),
        ({"sampler": "badge", "pretext": "jigsaw", "image_size": 64}, False),
        ({"preset": "paper"}, True),
        ({"learner": "own"}, True),
        ({"encoder": "none"}, True),
        ({"network": "compact"}, True),
        ({"init": "scratch"}, True),
        ({"recipe": "paper"}, True),
        ({"joint": "barlow_twins"}, True),
        ({"sampler": "vaal"}, True),
        ({"sampler": "bald"}, True),
    ],
)
def test_a_setting_that_the_encoder_cannot_follow_calls_for_an_own_network(given: dict[str, object], own: bool) -> None:
    config = ProjectConfig.from_extra_params(given)
    assert config.own_network == own
    if given.get("preset") != "paper":
        assert config.chosen_first_query == ("typical" if own else "max_herding")


@pytest.mark.parametrize("learner", ["linear", "finetune"])
@pytest.mark.parametrize(
    "given", [{"encoder": "none"}, {"network": "resnet18"}, {"joint": "barlow_twins"}, {"sampler": "vaal"}]
)
def test_a_learner_on_the_encoder_and_what_it_cannot_follow_are_refused_together(
    given: dict[str, str], learner: str
) -> None:
    [(name, value)] = given.items()
    with pytest.raises(ConfigError, match=f"'{learner}' does not go with {name}: '{value}'"):
        ProjectConfig.from_extra_params({"learner": learner, **given})


def test_an_encoder_that_nobody_knows_is_refused_with_the_choices() -> None:
    for name in ("resnet50", "timm:"):
        with pytest.raises(ConfigError, match=r"encoder: .* auto, none, efficientnet_lite0, timm:<name>"):
            ProjectConfig.from_extra_params({"encoder": name})


def test_a_simulation_and_a_project_have_the_same_defaults() -> None:
    simulated, project = QuerySettings(batches=10, k=1), ProjectConfig(learner="own")
    assert (simulated.order, simulated.first_query, simulated.sampler) == (
        project.batch_order, project.chosen_first_query, project.sampler,
    )  # fmt: skip


def test_settings_of_an_empty_environment_are_the_defaults() -> None:
    settings = Settings.from_env({"LABEL_STUDIO_URL": "", "HOME": "/root"})
    assert (settings.port, settings.label_studio_url, settings.log_level) == (9090, None, "INFO")
    assert settings.database.startswith("sqlite:////")


@pytest.mark.parametrize(
    ("env", "word"),
    [
        ({"PORT": "ninety"}, "PORT"),
        ({"LABEL_STUDIO_URL": "localhost:8080"}, "http://"),
        ({"LOG_LEVEL": "LOUD"}, "LOG_LEVEL"),
        ({"DEVICE": "tpu"}, "cuda"),
        ({"BASIC_AUTH_USER": "me"}, "BASIC_AUTH_PASS"),
    ],
)
def test_a_wrong_variable_is_refused_by_name(env: dict[str, str], word: str) -> None:
    with pytest.raises(ConfigError, match=word):
        Settings.from_env(env)


def test_settings_do_not_print_secrets() -> None:
    settings = Settings.from_env(
        {"LABEL_STUDIO_API_KEY": "s3cret", "REDIS_URL": "redis://:s3cret@x", "DATABASE_URL": "sqlite:///s3cret"}
    )
    assert "s3cret" not in repr(settings)


@pytest.mark.parametrize("quotes", ['""', "''", "``", "“”", '" '])
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("LABEL_STUDIO_API_KEY", "c0ffee" * 7),
        ("LABEL_STUDIO_URL", "http://studio:8080"),
        ("DASHBOARD_URL", "http://host/pt4al"),
        ("DATA_DIR", "/data"),
        ("REDIS_URL", "redis://redis"),
        ("DATABASE_URL", "sqlite:///x"),
        ("LOG_LEVEL", "INFO"),
        ("PORT", "9090"),
    ],
)
def test_quotes_around_a_setting_are_named(name: str, value: str, quotes: str) -> None:
    assert Settings.from_env({name: value}) is not None
    with pytest.raises(ConfigError, match=f"^{name}: the value has quotes around it.*leave them out") as error:
        Settings.from_env({name: f"{quotes[0]}{value}{quotes[1]}"})
    assert value not in str(error.value)


def test_a_password_may_have_quotes() -> None:
    settings = Settings.from_env({"BASIC_AUTH_USER": "'me'", "BASIC_AUTH_PASS": '"s3cret"'})
    assert settings.basic_auth_pass.get_secret_value() == '"s3cret"'


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ("Token c0ffee", "without 'Token' or 'Bearer'"),
        ("bearer c0ffee", "without 'Token' or 'Bearer'"),
        ("Authorization: Token c0ffee", "without 'Token' or 'Bearer'"),
        ("c0f fee", "no spaces"),
        ("c0f\nfee", "no spaces"),
        ("c0f\x00fee", "no spaces"),
        ("c0ff\u00e9e", "beyond ASCII"),
        ('c0ffee"', "quotes"),
    ],
)
def test_a_token_that_is_none_is_named_without_being_shown(value: str, says: str) -> None:
    with pytest.raises(ConfigError, match=f"LABEL_STUDIO_API_KEY: .*{says}") as error:
        Settings.from_env({"LABEL_STUDIO_API_KEY": value})
    assert "c0f" not in str(error.value)


@pytest.mark.parametrize("value", ["c0ffee" * 7, " c0ffee\n", "eyJ.eyJ-_.sig"])
def test_a_token_is_taken_as_it_is(value: str) -> None:
    assert Settings.from_env({"LABEL_STUDIO_API_KEY": value}).label_studio_api_key is not None


def test_batches_of_a_linear_head_hold_fifty_rounds_unless_rounds_are_set() -> None:
    head = ProjectConfig()
    assert [head.batches_of(pool) for pool in (30, 1304, 2000, 5000, 50_000)] == [1, 2, 3, 8, 10]
    assert ProjectConfig(labels_per_round=100).batches_of(20_000) == 4
    assert ProjectConfig(rounds=10).batches_of(1304) == 10
    assert ProjectConfig(learner="own").batches_of(30) == 10
