"""``make demo``: the whole loop on one machine, watched from outside.

A Label Studio and a backend of its own are started in ``demo-data`` (``DEMO_DIR``), images are uploaded, the backend is
connected with nothing but its URL, and a simulated annotator labels three rounds through Label Studio's own next-task
endpoint. Then it stays up for a person to go on, and another run goes on with what that person has labeled, unless
``FRESH=1``.
"""

from backend.demo.run import demo

__all__ = ["demo"]
