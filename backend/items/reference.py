"""Where the image of a task is: from the task's data to one address."""

import re
from collections.abc import Mapping

from backend.errors import ImageError
from backend.studio.types import Json

# As Label Studio's interface reads a tag's value: names with dots, [0] and {{ }} behind a dollar sign.
VARIABLE = re.compile(r"\$[\w\[\].{}]+", re.ASCII)
# What people mean by one name behind a dollar sign: no address, and no second variable.
_NAME = re.compile(r"\$[^$/:.?&=]+")
UNDEFINED = "$undefined$"  # Label Studio's own name for what was imported before there was an interface
# What stands in task data where an image does: addresses, paths, names of files.
_ADDRESS = re.compile(r"(?:https?|s3|gs|azure-blob|data):|/|.*\.(?:jpe?g|png|gif|webp|bmp|tiff?)$", re.IGNORECASE)
MENTIONED = 3  # fields that a message names


def data_key_of(value: str) -> str:
    """Return where the image stands in a task's data by an ``<Image>``'s value; empty where the value has no variable.

    That is a key or path for ``$key``; a longer text, such as ``https://host/$name``, stays as it is.
    """
    match = VARIABLE.search(value)
    if match is None:
        return ""
    return value[1:] if match.group() == value else value


def is_read(value: str) -> bool:
    """Tell whether Label Studio's interface reads an ``<Image>``'s value as people mean it.

    Its names have Latin letters, digits and ``_``: of ``$Image URL`` it reads ``$Image``, of ``$画像`` nothing. It then
    shows no image.
    """
    value = value.strip()
    return value != UNDEFINED and (VARIABLE.fullmatch(value) is not None or _NAME.fullmatch(value) is None)


def image_ref(data: Json, data_key: str) -> str:
    """Return the address of the image in a task's data.

    Raises:
        ImageError: there is none, or it is not one address.
    """
    if not isinstance(data, Mapping):  # Label Studio's API answers with an error then, and stores it all the same
        raise ImageError(f"task whose data is not an object but a {type(data).__name__}")
    if "$" in data_key:
        return VARIABLE.sub(lambda match: image_ref(data, match.group()[1:]), data_key)
    value: Json = data.get(data_key)
    if value is None:
        value = _walk(data, data_key)
    if isinstance(value, (list, tuple)) and len(value) == 1:  # Label Studio shows it as it shows a single address
        value = value[0]
    value = value.strip() if isinstance(value, str) else value
    if isinstance(value, str) and value:
        return value
    if isinstance(value, (list, tuple)):
        raise ImageError(f"task with a list of {len(value)} images in '{data_key}', of which we would need one")
    if value is None or value == "":
        raise ImageError(f"task without an image: '{data_key}' is empty or missing in its data{_instead(data)}")
    raise ImageError(f"task whose '{data_key}' is not an address but a {type(value).__name__}")


def _instead(data: Mapping[str, Json]) -> str:
    """Return the fields of a task's data in which the image may stand, as part of a sentence."""
    found = [f"'{key:.40}'" for key, value in data.items() if isinstance(value, str) and _ADDRESS.match(value.strip())]
    if not found:
        return ""
    named = ", ".join(found[:MENTIONED])
    return f". It has an address in {named}: name that field in the labeling interface, or rename it in the data"


def _walk(data: Json, path: str) -> Json:
    """Return what stands at a path such as ``images[0].url``; None where there is nothing."""
    value = data
    for step in re.findall(r"[^.\[\]]+", path):
        if isinstance(value, Mapping):
            value = value.get(step)
        elif isinstance(value, list) and step.isdigit() and int(step) < len(value):
            value = value[int(step)]
        else:
            return None
    return value
