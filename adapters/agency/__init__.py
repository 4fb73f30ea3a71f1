"""Agency fronts: turn an agency's own form into calls of its gateway. They speak HTTP to it, like any client system."""
