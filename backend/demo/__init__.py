"""``make demo``: the whole loop on one machine, watched from outside.

A Label Studio and a backend of its own are started in ``demo-data``, images are uploaded, the backend is connected with
nothing but its URL, and a simulated annotator labels three rounds through Label Studio's own next-task endpoint.
"""

from backend.demo.run import demo

__all__ = ["demo"]
