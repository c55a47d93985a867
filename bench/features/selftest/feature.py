"""What the self-test adds."""

from bench.extensions import Extension

EXTENSION = Extension(verbs={"selftest": "bench.features.selftest.selftest:SlowdownDetectionCheck"})
