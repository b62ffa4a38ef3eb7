"""What the command line can do. Each module is imported when its command is called, not before:
the simulator and the short commands start in a fraction of the time that the gateway takes.
"""

from typing import Final

SIM_USER: Final = "sim-user"
"""The account that the simulator signs webhooks for, unless told otherwise."""
