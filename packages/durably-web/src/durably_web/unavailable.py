"""What is said while nothing can be read: the database is out of reach, or nobody has opened it."""

import logging
from typing import Final

from starlette.exceptions import HTTPException

from durably import NotRunningError, StoreError

UNREACHABLE: Final = "The database cannot be reached"
NOT_OPEN: Final = "The application has not opened its database"

logger: logging.Logger = logging.getLogger("durably.web")


def unavailable(error: StoreError | NotRunningError, what: str) -> HTTPException:
    """How it is refused, once the application's log knows why."""
    if isinstance(error, NotRunningError):
        # Whoever forgot it sees this line first; where it was raised would tell them nothing.
        logger.error("%s cannot be served: %s, e.g. in the lifespan of the application around", what, error)
        words = NOT_OPEN
    else:
        logger.warning("the database cannot serve %s", what, exc_info=error)
        words = UNREACHABLE
    return HTTPException(503, words, headers={"Retry-After": "5"})
