"""HTTP fronts of a gateway: `/r1/…` for client systems, the directory services, and the admin port."""
