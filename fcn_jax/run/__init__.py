"""What a run is while it trains: its directory and lock, checkpoints, devices, hosts, and what the terminal shows."""
