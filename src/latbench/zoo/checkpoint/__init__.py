"""Files of weights, read as data: nothing in them is imported or called."""
