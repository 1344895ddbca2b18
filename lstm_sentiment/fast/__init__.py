"""The same numbers, faster: the LSTM's steps, its autograd function, large products."""
