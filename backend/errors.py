"""The exceptions of the backend.

BackendError
├── ConfigError          a setting of the environment or of "extra params" is wrong
├── ProjectError         the project cannot be worked on until a person changes it
│   └── Disconnected         this backend is not among the project's models any more
├── StudioError          Label Studio did not do what was asked
│   ├── StudioUnreachable    no answer, or an answer that is not Label Studio's (worth a retry)
│   ├── StudioRefused        every token was refused (401 or 403)
│   └── StudioMissing        the project, task or file is not there (404)
│       └── ProjectGone          the project itself: deleted, or its id is another one's now
├── Undecided            several servers have a project, and which one goes on with it is not known yet
├── ImageError           one image cannot be had or decoded; its reason goes into the quarantine
│   └── ImageUnavailable     the source failed in a way that may pass (timeout, 5xx): worth a retry
├── StoreUnavailable     the database cannot be read or written now: locked, away, or its disk is full
├── QueueUnavailable     Redis cannot be reached or written
└── Superseded           another worker took this job over; stop without a trace

Every message says what was found and what to do about it.
"""


class BackendError(Exception):
    """Any error that this backend raises on purpose."""


class ConfigError(BackendError):
    """A setting is unknown or has a value that is not allowed."""


class ProjectError(BackendError):
    """The project cannot be worked on until a person changes it."""


class Disconnected(ProjectError):  # noqa: N818 - the state, not the class of error, is the message
    """This backend is not among the project's models any more."""


class Undecided(BackendError):  # noqa: N818 - the state, not the class of error, is the message
    """Several servers have a project, and which one goes on with what was learned is not known yet."""


class StudioError(BackendError):
    """Label Studio did not do what was asked."""


class StudioUnreachable(StudioError):  # noqa: N818 - the state, not the class of error, is the message
    """Label Studio gave no answer, or one that is not its own."""


class StudioRefused(StudioError):  # noqa: N818
    """Label Studio refused every token that we have."""


class StudioMissing(StudioError):  # noqa: N818
    """The thing asked for does not exist in Label Studio."""


class ProjectGone(StudioMissing):
    """The project was deleted in Label Studio, or another one has its id now."""


class ImageError(BackendError):
    """One image cannot be had or decoded."""


class ImageUnavailable(ImageError):  # noqa: N818
    """The source of an image failed in a way that may pass."""


class StoreUnavailable(BackendError):  # noqa: N818
    """The database cannot be read or written now."""


class QueueUnavailable(BackendError):  # noqa: N818
    """Redis cannot be reached or written."""


class Superseded(BackendError):  # noqa: N818
    """What this job was to do is not wanted any more: another worker, or another job, took it over."""
