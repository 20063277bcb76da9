"""What settings there are: `table` names and explains them, `checks` and `groups` read them."""
