"""Units of work in processes that can be killed, what they tell, and the store."""
