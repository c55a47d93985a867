"""The verb `check`: whether the methods of an extension keep the rules that trainings and timed runs rely on."""
