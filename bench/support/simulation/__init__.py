"""Many processes in virtual time, and an object store with latency and errors."""
