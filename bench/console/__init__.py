"""What a terminal shows, and which signals it sends."""
