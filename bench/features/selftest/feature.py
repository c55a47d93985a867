"""What the self-test adds."""

from bench.interfaces.extensions import Extension

EXTENSION = Extension(verbs={"selftest": "bench.features.selftest.selftest:SlowdownDetectionCheck"})
