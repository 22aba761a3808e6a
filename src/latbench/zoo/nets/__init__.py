"""Architectures as torch modules: the only modules here that import torch at their top."""
