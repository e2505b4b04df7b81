"""Figures for people: text, one design of HTML page, pictures, and one verdict on all of them."""
