"""A server-side proxy and webhook gateway for fal.ai. It alone holds the fal key."""

__version__ = "0.1.0"
