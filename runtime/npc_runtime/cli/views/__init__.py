"""Facts as answers: which rows there are and what stands in them."""
