"""What fit, validate, test and predict do."""
