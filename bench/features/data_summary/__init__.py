"""The verb `data`: what data hold, before anybody trains on them."""
