"""Kernels in Triton, Gluon and CuTe DSL, one family a file."""
