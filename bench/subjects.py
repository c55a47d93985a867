"""What can be scored beside the towers that were trained, and on what."""

RANDOM_TOWER = "random tower"  # the floor: what a training begins with
REFERENCES = ("raw pixels", "HOG and colour")  # features that were never trained
TASKS = ("Twemoji group", "Twemoji subgroup", "rooms", "silhouettes, 20 per class", "silhouettes, 100 per class")
