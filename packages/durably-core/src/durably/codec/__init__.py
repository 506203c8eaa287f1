"""Values to and from the JSON text that is stored.

What comes back is what went in, or the value is refused with the path of the part that would change:
a job that is replayed must see what it saw live.
"""

from durably.codec.results import codec_of_result
from durably.codec.values import UNTYPED, Codec, codec_for

__all__ = ["UNTYPED", "Codec", "codec_for", "codec_of_result"]
