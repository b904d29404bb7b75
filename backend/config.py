"""Settings of the process (environment) and of a project ("extra params"), read once and validated."""

import json
import os
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import ip_network
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)

from backend.addresses import AllowedAddresses, Network
from backend.errors import ConfigError
from model.encoders.registry import AUTO as ENCODER_AUTO
from model.encoders.registry import ENCODERS, is_encoder
from model.encoders.registry import NONE as NO_ENCODER
from model.learners.registry import AUTO as LEARNER_AUTO
from model.learners.registry import LEARNER_NAMES, LEARNERS, OF_ENCODER, OWN
from model.networks.registry import INITS, NETWORK_NAMES
from model.pretext.registry import PRETEXT_TASKS
from model.problems import PROBLEMS
from model.querying.batches import BATCH_ORDERS
from model.querying.first_queries import FIRST_QUERIES, FORMER_NAMES
from model.querying.plan import QuerySettings
from model.querying.samplers import SAMPLERS
from model.querying.selection import GAIN_PER
from model.training.registry import JOINTS, RECIPE_INFOS

LogFormat = Literal["text", "json"]
LogLevel = Literal["DEBUG", "INFO", "WARNING", "ERROR"]

SECRET_HEADER = "X-PT4AL-Secret"  # what Label Studio's webhook sends to show that it is ours
LABELS, MOST_LABELS = 12, 200  # images a round of a linear head, and at most
SPAN = 50  # rounds' worth of images in a batch, at least, of a linear head
MOST_UNSEEN = 64  # tasks of a request that are scored while somebody waits: trainings wait meanwhile

QUOTES = "\"'`\u201c\u201d\u2018\u2019"
PASSWORDS = frozenset({"basic_auth_user", "basic_auth_pass"})  # may begin with anything
TRUSTED = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")  # read by requests at each connection; the first one counts


@dataclass(frozen=True)
class Preset:
    """Settings under one name. differs: what is not as in its source all the same, for docs/configuration.md.

    masks: what takes the place of all of them in a project of masks; empty where there is no such thing.
    """

    values: Mapping[str, object]
    differs: tuple[str, ...] = ()
    masks: Mapping[str, object] = field(default_factory=dict)


_PAPER: dict[str, object] = {
    "pretext": "rotation",
    "batch_order": "high_first",
    "first_query": "even",
    "sampler": "least_confidence",
    "encoder": "none",
    "learner": "own",
    "network": "resnet18",
    "init": "previous",
    "recipe": "paper",
}
# Section 6.2: Cityscapes.
_PAPER_OF_MASKS: dict[str, object] = {
    "pretext": "colorization",
    "batch_order": "high_first",
    "first_query": "even",
    "sampler": "least_confidence",
    "labels_per_round": 100,
}
_HOLDOUT = "A tenth of each round's labels is asked on top, and never trained on (`holdout_fraction`)"
_K = (
    "A round asks a fifth of a batch, 1,000 images at most: that is CIFAR-10's. Caltech-101's is 1,000 of 8,046, "
    "ImageNet's 128,000 of 1,279,867 (`labels_per_round`)"
)
_PIXELS = "Pixels are centred and scaled alike for every set, not by the set's own mean and deviation"

PRESETS: dict[str, Preset] = {
    # What docs/method.md's tables support: the defaults below, and those of QuerySettings.
    "measured": Preset({}),
    # PT4AL (ECCV 2022): section 4 and 5.1, and where these say nothing, its code.
    "paper": Preset(
        _PAPER,
        (
            _HOLDOUT,
            _K,
            "ImageNet's 100 epochs are not chosen by themselves (`epochs`)",
            "Images of up to 64 pixels are cropped as the code does it, with a black frame of an eighth of the side",
            _PIXELS,
            "Masks: the main model is a light decoder on the frozen encoder and the pretext network a head on it, not "
            "DeepLab and a network of its own",
        ),
        _PAPER_OF_MASKS,
    ),
    "released_code": Preset(
        {**_PAPER, "batch_order": "released_code", "sampler": "released_confidence"},
        (
            "The code keeps the epoch of the highest accuracy on the test images. Here the last epoch is kept",
            _HOLDOUT,
            _PIXELS,
        ),
    ),
}


class Settings(BaseModel):
    """What the operator sets, once per process."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    label_studio_url: str | None = None
    label_studio_api_key: SecretStr | None = None
    dashboard_url: str | None = None
    redis_url: SecretStr | None = None
    database_url: SecretStr | None = None
    database_connections: int = Field(default=10, ge=1, le=1000)
    data_dir: Path = Path("pt4al-data")
    basic_auth_user: str | None = None
    basic_auth_pass: SecretStr | None = None
    port: int = Field(default=9090, ge=1, le=65535)
    log_level: LogLevel = "INFO"
    log_format: LogFormat = "text"
    device: str = "auto"
    allowed_image_hosts: str = ""
    trusted_proxies: str = "127.0.0.1, ::1"

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None) -> Self:
        """Read the environment; an empty variable counts as unset.

        Raises:
            ConfigError: a variable has a value that is not allowed, or half of a pair is missing.
        """
        env = os.environ if environ is None else environ
        given = {name: env[name.upper()] for name in cls.model_fields if env.get(name.upper(), "").strip()}
        for name in given.keys() - PASSWORDS:
            if given[name].strip()[0] in QUOTES:
                raise ConfigError(
                    f"{name.upper()}: the value has quotes around it, which belong to the value here: leave them out "
                    "(docker's --env-file does not read its file as a shell does)"
                )
        _check_trusted(env)
        try:
            return cls.model_validate(given)
        except ValidationError as error:
            raise ConfigError(_sentence(error, str.upper)) from None

    @field_validator("label_studio_api_key")
    @classmethod
    def _plain_token(cls, value: SecretStr | None) -> SecretStr | None:
        text = value.get_secret_value().strip() if value else ""
        # Each says what is wrong without the value, which is secret.
        if set(text) & set(QUOTES):
            raise ValueError("the token has quotes around it: leave them out")
        if text.lower().startswith(("token ", "bearer ", "authorization:")):
            raise ValueError("write the token alone, without 'Token' or 'Bearer' before it")
        if len(text.split()) > 1 or not text.isascii() or not text.isprintable():
            raise ValueError("a token has no spaces, line breaks or letters beyond ASCII: copy it once more")
        return value

    @field_validator("log_level", mode="before")
    @classmethod
    def _upper(cls, value: object) -> object:
        return value.upper() if isinstance(value, str) else value

    @field_validator("log_format", mode="before")
    @classmethod
    def _lower(cls, value: object) -> object:
        return value.lower() if isinstance(value, str) else value

    @field_validator("allowed_image_hosts")
    @classmethod
    def _readable_addresses(cls, value: str) -> str:
        AllowedAddresses.parse(value)
        return value

    @field_validator("trusted_proxies")
    @classmethod
    def _readable_networks(cls, value: str) -> str:
        _networks(value)
        return value

    @field_validator("label_studio_url", "dashboard_url")
    @classmethod
    def _http_url(cls, value: str | None) -> str | None:
        if value is not None and not value.lower().startswith(("http://", "https://")):
            raise ValueError(f"'{value}' must start with http:// or https://")
        return value.rstrip("/") if value else None

    @field_validator("device")
    @classmethod
    def _known_device(cls, value: str) -> str:
        if value.split(":")[0] not in {"auto", "cpu", "cuda", "mps"}:
            raise ValueError(f"'{value}' is not one of auto, cpu, cuda, cuda:<n>, mps")
        return value

    @model_validator(mode="after")
    def _both_or_none(self) -> Self:
        if bool(self.basic_auth_user) != bool(self.basic_auth_pass):
            raise ValueError("BASIC_AUTH_USER and BASIC_AUTH_PASS have to be set together")
        return self

    @property
    def allowed_addresses(self) -> AllowedAddresses:
        """Where images may come from besides Label Studio and the public internet."""
        return AllowedAddresses.parse(self.allowed_image_hosts)

    @property
    def trusted_networks(self) -> tuple[Network, ...]:
        """Which machines' headers are believed as to the address that people see."""
        return _networks(self.trusted_proxies)

    @property
    def database(self) -> str:
        """The SQLAlchemy URL: what DATABASE_URL says, else SQLite under the data folder."""
        return self.database_url.get_secret_value() if self.database_url else self.own_database

    @property
    def on_servers(self) -> bool:
        """Whether Redis and database are servers of their own, which processes of several machines may share."""
        return self.redis_url is not None and not self.database.startswith("sqlite")

    @property
    def own_database(self) -> str:
        """The SQLAlchemy URL of the database under the data folder, whether or not it is the one in use."""
        return f"sqlite:///{self.data_dir.resolve() / 'pt4al.sqlite3'}"


class ProjectConfig(BaseModel):
    """What a person types into Label Studio's "extra params" when connecting the model."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    preset: str = "measured"
    control: str | None = None
    problem: str | None = None
    background: str = "learn"
    pretext: str = "rotation"
    rounds: int = Field(default=10, ge=1, le=1000)
    labels_per_round: int | None = Field(default=None, ge=1, le=100_000)
    batch_order: str = QuerySettings.order
    first_query: str = "auto"
    sampler: str = QuerySettings.sampler
    gain_per: str = QuerySettings.gain_per
    encoder: str = ENCODER_AUTO
    learner: str = LEARNER_AUTO
    network: str = "auto"
    image_size: int | Literal["auto"] = "auto"
    init: str = "pretext"
    recipe: str = "auto"
    epochs: int | None = Field(default=None, ge=1, le=10_000)
    pretext_epochs: int | None = Field(default=None, ge=1, le=10_000)
    pretext_seconds: int | None = Field(default=None, ge=1, le=30 * 24 * 3600)
    joint: str = "none"
    holdout_fraction: float = Field(default=0.1, ge=0, le=1)
    preannotate: bool = True
    seed: int = Field(default=0, ge=0, lt=2**31)

    @classmethod
    def from_extra_params(cls, extra_params: object) -> Self:
        """Read "extra params": a JSON object, JSON text of one, or nothing.

        Raises:
            ConfigError: a key is unknown or a value is not allowed; names the field and the choices.
        """
        given = as_mapping(extra_params)
        preset = given.get("preset", "measured")
        if not isinstance(preset, str) or preset not in PRESETS:
            raise ConfigError(f"preset: {preset!r} is not one of {', '.join(PRESETS)}")
        try:
            return cls.model_validate({**PRESETS[preset].values, **given})
        except ValidationError as error:
            raise ConfigError(_sentence(error, str, sorted(cls.model_fields))) from None

    @field_validator(
        "background",
        "pretext",
        "batch_order",
        "first_query",
        "sampler",
        "gain_per",
        "learner",
        "network",
        "init",
        "recipe",
        "joint",
    )
    @classmethod
    def _known_name(cls, value: str, info: Any) -> str:
        choices = CHOICES[info.field_name]
        if info.field_name == "first_query":
            value = FORMER_NAMES.get(value, value)
        if value not in choices:
            raise ValueError(f"'{value}' is not one of {', '.join(choices)}")
        return value

    @field_validator("problem")
    @classmethod
    def _known_problem(cls, value: str | None) -> str | None:
        if value is not None and value not in PROBLEMS:
            raise ValueError(f"'{value}' is not one of {', '.join(PROBLEMS)}")
        return value

    @field_validator("encoder")
    @classmethod
    def _known_encoder(cls, value: str) -> str:
        if not is_encoder(value):
            raise ValueError(f"'{value}' is not one of {', '.join((ENCODER_AUTO, NO_ENCODER, *ENCODERS))}, timm:<name>")
        return value

    @field_validator("control")
    @classmethod
    def _named_control(cls, value: str | None) -> str | None:
        if value is not None and not value.strip():
            raise ValueError("empty; write the name of a control tag, or leave the key out")
        return value

    @field_validator("image_size")
    @classmethod
    def _sensible_size(cls, value: int | str) -> int | str:
        if isinstance(value, int) and not (8 <= value <= 512 and value % 8 == 0):
            raise ValueError(f"{value} is neither 'auto' nor a multiple of 8 between 8 and 512 (pixels)")
        return value

    @model_validator(mode="after")
    def _weights_of_the_network(self) -> Self:
        if not INITS[self.init].fits(self.network):
            weights_of = ", ".join(INITS[self.init].networks)
            raise ValueError(f"init: '{self.init}' weights are those of {weights_of}, not of network '{self.network}'")
        return self

    @model_validator(mode="after")
    def _size_for_the_task(self) -> Self:
        smallest = PRETEXT_TASKS[self.pretext].smallest_side
        if isinstance(self.image_size, int) and self.image_size < smallest:
            raise ValueError(f"image_size: {self.image_size} is too small for '{self.pretext}': {smallest} at least")
        return self

    @model_validator(mode="after")
    def _learner_of_the_encoder(self) -> Self:
        info = LEARNERS.get(self.learner)
        if info is not None and info.encoder and self.calls_for_own:
            raise ValueError(f"learner: '{info.name}' does not go with {self.calls_for_own}: leave one of them out")
        return self

    @model_validator(mode="after")
    def _epochs_of_a_network(self) -> Self:
        given = [name for name in ("pretext_epochs", "pretext_seconds") if getattr(self, name) is not None]
        if given and not self.own_network and PRETEXT_TASKS[self.pretext].on_encoder:
            raise ValueError(
                f"{given[0]}: '{self.pretext}' is a head on the encoder, which has no epochs: leave the key out, "
                f"or choose another pretext task or encoder: '{NO_ENCODER}'"
            )
        if len(given) > 1:
            raise ValueError("pretext_epochs and pretext_seconds each say how long the training is: leave one out")
        return self

    def suited(self, name: str) -> Self:
        """Return the configuration with the defaults of a problem (``Problem.round_size``) where nothing is given.

        Raises:
            ConfigError: what is given does not go with them.
        """
        of, preset = PROBLEMS[name], PRESETS[self.preset]
        if preset.masks and name == "segmentation":
            given = {key: getattr(self, key) for key in self.model_fields_set}
            typed = {key: value for key, value in given.items() if value != preset.values.get(key)}
            try:
                return type(self).model_validate({**preset.masks, **typed})
            except ValidationError as error:
                raise ConfigError(_sentence(error, str)) from None
        suits = {
            "labels_per_round": of.round_size, "holdout_fraction": of.holdout_share, "sampler": of.sampler,
            "pretext": of.pretext,
        }  # fmt: skip
        set_to = {key for key in self.model_fields_set if getattr(self, key) is not None}
        known = {key: value for key, value in suits.items() if value is not None and key not in set_to}
        return self.model_copy(update=known)

    @property
    def calls_for_own(self) -> str | None:
        """The setting that only a network of our own can follow, in words; None where there is none."""
        if self.encoder == NO_ENCODER:
            return f"encoder: '{NO_ENCODER}'"
        for name in ("network", "init", "recipe", "epochs", "joint"):
            if getattr(self, name) != type(self).model_fields[name].default:
                return f"{name}: '{getattr(self, name)}'"
        known = OF_ENCODER | {name for problem in PROBLEMS.values() for name in problem.base_outputs}
        return None if SAMPLERS[self.sampler].needs <= known else f"sampler: '{self.sampler}'"

    @property
    def ignores_background(self) -> bool:
        """Whether pixels that nobody painted are unknown, and not the background."""
        return self.background == "ignore"

    @property
    def own_network(self) -> bool:
        """Whether the main model is a network of our own, which asks from its pretext features; else the encoder's."""
        return self.learner == OWN or self.calls_for_own is not None

    @property
    def chosen_first_query(self) -> str:
        """The first query: as configured, else what was measured to be best for the features that it reads."""
        if self.first_query != "auto":
            return self.first_query
        return "typical" if self.own_network else "max_herding"

    @property
    def batches_by_pool(self) -> bool:
        """Whether the number of batches follows from the pool, instead of from ``rounds``."""
        return not self.own_network and "rounds" not in self.model_fields_set

    def batches_of(self, pool: int) -> int:
        """Return the number of batches of a pool of ``pool`` images.

        With a linear head, which asks few images a round, a batch has SPAN rounds' worth of images at least: smaller
        ones cost labels in the first rounds (docs/method.md).
        """
        if not self.batches_by_pool:
            return self.rounds
        return min(self.rounds, max(1, pool // (SPAN * self.labels_of_round(pool))))

    def labels_of_round(self, pool: int, recent: int = 0) -> int:
        """Return K for a pool of ``pool`` images, as configured, else as many as suit the learner.

        A network of our own takes a while to train: a fifth of a batch, 10 to 1,000. A linear head takes a second, and
        small rounds save labels: LABELS, or what all annotators together answer in half a minute. recent: the answers
        of the last ten seconds.
        """
        if self.labels_per_round is not None:
            return self.labels_per_round
        if self.own_network:
            return min(max(round(pool / self.rounds / 5), 10), 1000)
        return min(max(LABELS, 3 * recent), MOST_LABELS)

    def holdout_of_round(self, k: int) -> int:
        """Return the number of random images that are asked on top of the query's ``k``."""
        return round(self.holdout_fraction * k + 1e-9)


CHOICES: dict[str, tuple[str, ...]] = {
    "background": ("learn", "ignore"),
    "learner": LEARNER_NAMES,
    "pretext": tuple(PRETEXT_TASKS),
    "batch_order": tuple(BATCH_ORDERS),
    "first_query": ("auto", *FIRST_QUERIES),
    "sampler": tuple(SAMPLERS),
    "gain_per": GAIN_PER,
    "network": NETWORK_NAMES,
    "init": tuple(INITS),
    "recipe": tuple(RECIPE_INFOS),
    "joint": tuple(JOINTS),
}


def as_mapping(extra_params: object) -> dict[str, object]:
    """Read "extra params" as the mapping that was typed in, which may be JSON text or nothing.

    Raises:
        ConfigError: it is something else.
    """
    value = extra_params.strip() if isinstance(extra_params, str) else extra_params
    if isinstance(value, str) and value:
        try:
            value = json.loads(value)
        except ValueError:
            raise ConfigError('extra params: not JSON; write an object such as {"rounds": 10}') from None
    if value in (None, "", {}, []):
        return {}
    if not isinstance(value, dict):
        raise ConfigError(f'extra params: {type(value).__name__} found; write an object such as {{"rounds": 10}}')
    return {str(key): item for key, item in value.items()}


def _check_trusted(env: Mapping[str, str]) -> None:
    """See that the certificates that connections are checked by can be read.

    Raises:
        ConfigError: they cannot; otherwise each connection would say so.
    """
    name = next((name for name in TRUSTED if env.get(name)), None)
    if name is None:
        return
    path = Path(env[name])
    try:
        ssl.create_default_context(cafile=None if path.is_dir() else path, capath=path if path.is_dir() else None)
    except OSError as error:
        why = "it is not there" if isinstance(error, FileNotFoundError) else "it holds no certificates that can be read"
        raise ConfigError(f"{name}: {path} has to be a file of certificates (PEM): {why}") from None


def _networks(text: str) -> tuple[Network, ...]:
    """Read addresses and networks, separated by commas or spaces; ``none`` is none.

    Raises:
        ValueError: an entry is neither; the text says which.
    """
    entries = [] if text.strip().lower() == "none" else text.replace(",", " ").split()
    networks = []
    for entry in entries:
        try:
            networks.append(ip_network(entry.strip("[]"), strict=False))
        except ValueError:
            raise ValueError(f"'{entry}' is neither an address nor a network; 'none' trusts nobody") from None
    return tuple(networks)


def _sentence(error: ValidationError, name: Any, known: list[str] | None = None) -> str:
    """Turn pydantic's report into one line that names each field, what was found and what is allowed."""
    parts = []
    for item in error.errors():
        field = name(str(item["loc"][0])) if item["loc"] else ""
        text = item["msg"].removeprefix("Value error, ")
        if item["type"] == "extra_forbidden" and known:
            text = f"unknown key; choose from {', '.join(known)}"
        elif item["type"] != "value_error":
            text = f"{text[:1].lower()}{text[1:]}, found {item['input']!r:.80}"
        parts.append(f"{field}: {text}" if field else text)
    return "; ".join(dict.fromkeys(parts))
