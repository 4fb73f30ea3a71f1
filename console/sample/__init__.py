"""Sample data and a sample register, for demonstrations and measurements.

Everything in it is made up from a seed: the same seed and count give the same people and firms. Codes have the form of
real ones, so a sample can meet a real code by chance; nothing here is taken from any register.
"""
