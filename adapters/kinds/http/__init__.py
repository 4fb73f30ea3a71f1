"""Kind `http`: a backend that speaks HTTP, called at `base_url` + the raw path and query of the request."""

from collections.abc import Mapping

from adapters.kinds.http.settings import HttpSettings, read_settings
from adapters.kinds.http.source import HttpSource
from adapters.port import SourceObserver

__all__ = ["HttpKind", "HttpSettings", "HttpSource"]


class HttpKind:
    """Makes sources that forward calls to an HTTP backend."""

    def build(self, settings: Mapping[str, object], observer: SourceObserver) -> HttpSource:
        """Check the settings and make a source that is not open yet.

        Raises:
            SettingsInvalid: With the dotted key that is wrong.
        """
        return HttpSource(read_settings(settings), observer)
