"""The exchange: the numbered procedures of the asking and the answering side, and what they stand on."""
