"""Storage to frames to tables; no torch and no ray."""
