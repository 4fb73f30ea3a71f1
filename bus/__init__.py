"""Bus: the exchange itself. Sealing, the numbered procedures of both sides, transport, the gateway and its fronts."""
