"""Stage one: a frozen encoder runs once over every sample, and its features are stored.

`epalm.extract(...)` calls `epalm.api.commands.extract`.
"""

from epalm.callable_module import make_callable

make_callable(__name__, "epalm.api.commands", "extract")
