"""A dashboard and an HTTP interface for Durably's jobs."""

from durably_web.api import DurablyHandler, create_durably_handler
from durably_web.app import DurablyWeb
from durably_web.auditing import AuditEntry
from durably_web.auth import AuthConfig, Payload, PayloadKind, RunOperation, TriggerRequest, allow_local
from durably_web.kit import Html
from durably_web.options import DurablyWebOptions
from durably_web.views import JobView, RunActionsOf, RunsPage, RunView, WebContext

__all__ = [
    "AuditEntry",
    "AuthConfig",
    "DurablyHandler",
    "DurablyWeb",
    "DurablyWebOptions",
    "Html",
    "JobView",
    "Payload",
    "PayloadKind",
    "RunActionsOf",
    "RunOperation",
    "RunView",
    "RunsPage",
    "TriggerRequest",
    "WebContext",
    "allow_local",
    "create_durably_handler",
]
