def add(*numbers: int, **named: int):
    return sum(numbers) + sum(named.values())
