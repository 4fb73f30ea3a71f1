"""Power cuts: what a program wrote is recorded, and the states in which a cut could leave the disk are made from that."""
