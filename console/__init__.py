"""Console: what people touch. The command line, the demonstration and the composition root."""
