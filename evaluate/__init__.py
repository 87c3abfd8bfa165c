"""Stage three: generate, score and report.

`epalm.evaluate(...)` calls `epalm.api.commands.evaluate`.
"""

from epalm.callable_module import make_callable

make_callable(__name__, "epalm.api.commands", "evaluate")
