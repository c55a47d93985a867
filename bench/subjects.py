"""What can be scored beside the towers that were trained."""

RANDOM_TOWER = "random tower"  # the floor: what a training begins with
REFERENCES = ("raw pixels", "HOG and colour")  # features that were never trained
