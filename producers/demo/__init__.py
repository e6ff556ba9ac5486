"""`analysis demo`: sample images through the whole service, and what came of them."""
