"""What the tests share; they import it as `support.NAME`."""
