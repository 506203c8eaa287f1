"""The HTTP interface that the reference's clients speak: JSON, and event streams."""

from durably_web.api.handler import DurablyHandler, create_durably_handler

__all__ = ["DurablyHandler", "create_durably_handler"]
