"""Checks of the encoders that the projects use, and of the default one."""

from collections.abc import Iterator

from backend.config import ProjectConfig, Settings
from backend.doctor.finding import Finding
from backend.errors import ConfigError
from backend.store import Store
from model.encoders.registry import DEFAULT, encoder_info
from model.encoders.weights import about_weights, check_weights
from model.errors import ModelError

FIX = 'do what it says; a project that needs no encoder has {"encoder": "none"} in its extra params'


def check_encoders(settings: Settings, store: Store | None) -> Iterator[Finding]:
    """Yield a finding about each encoder: whether its weights are there and whole, their licence and their size."""
    for name in sorted({DEFAULT, *(_configured(store) if store is not None else ())}):
        try:
            info = encoder_info(name)
            path = check_weights(info, settings.data_dir / "encoders")
            yield Finding("encoder", f"{name} ({info.source}; {about_weights(info, path)}), weights in {path}")
        except (ModelError, OSError) as error:
            yield Finding("encoder", str(error), FIX)


def _configured(store: Store) -> Iterator[str]:
    for project in store.projects.all(active=True):
        try:
            config = ProjectConfig.from_extra_params(project.extra_params)
        except ConfigError:
            continue  # the finding about the project says so
        if not config.own_network:
            yield encoder_info(config.encoder).name
