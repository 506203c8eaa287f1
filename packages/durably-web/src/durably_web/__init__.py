"""A dashboard and an HTTP interface for Durably's jobs."""

__all__: list[str] = []
