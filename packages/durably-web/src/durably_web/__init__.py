"""A dashboard and an HTTP interface for Durably's jobs."""

from durably_web.auth import AuthConfig, RunOperation, TriggerRequest, allow_local
from durably_web.policy import AuditEntry

__all__ = ["AuditEntry", "AuthConfig", "RunOperation", "TriggerRequest", "allow_local"]
