"""Stage two: training connectors and a soft prompt on cached features.

`epalm.train(...)` calls `epalm.api.commands.train`.
"""

from epalm.callable_module import make_callable

make_callable(__name__, "epalm.api.commands", "train")
