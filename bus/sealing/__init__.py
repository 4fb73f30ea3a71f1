"""Sealing: what is for the receiver alone. Key forms, epoch keys wrapped with HPKE, sealed contents."""
