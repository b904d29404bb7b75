"""The Flask application. It reads the store and enqueues hints; it makes no decisions."""
