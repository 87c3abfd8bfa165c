"""What a run will take before it starts: samples, bytes, requests, time and price."""
