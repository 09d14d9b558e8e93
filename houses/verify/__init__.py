"""The proof, and what became of each house, found out from outside: nothing here imports `houses.consumer`."""
