"""Settings of all tests."""

import os

# Tests run many tiny tensor operations; on a busy machine threads would only wait for each other.
# Set before torch is imported, and inherited by the commands that tests start.
os.environ["OMP_NUM_THREADS"] = "1"
