"""The numbers of the LSTM, faster."""
