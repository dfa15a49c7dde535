"""What lies in bags. Each object is a function of a random generator that returns parts in cm, lying flat (its thin side along z), centred."""
