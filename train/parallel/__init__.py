"""Training on several devices: launchers, collective operations, weight sharding."""
