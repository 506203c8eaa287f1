"""Forms for the inputs of jobs, made from their schemas."""

from durably_web.forms.fields import Field, Group, Option, fields_of
from durably_web.forms.filling import Filled, fill, read

__all__ = ["Field", "Filled", "Group", "Option", "fields_of", "fill", "read"]
