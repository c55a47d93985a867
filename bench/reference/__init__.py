"""Other people's training code beside ours."""
