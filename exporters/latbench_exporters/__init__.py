"""The exporters shipped with latbench: one module or package per file format."""
