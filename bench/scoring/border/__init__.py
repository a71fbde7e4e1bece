"""The border between a method and what it is to forecast: two processes and a pipe.

The method's process holds no run: it is shown what it may see, under no name, and hands back blocks
of numbers. The process at the desk holds runs, data and networks, reads what it is asked for as far
as that may be seen, measures losses, and scores. It lives on from method to method.
"""
